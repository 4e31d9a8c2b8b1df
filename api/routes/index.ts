/** The one list of routes: the server and the OpenAPI document are made from it. */
import type { Route } from '../route.ts';
import { actionRoutes } from './actions.ts';
import { approvalRoutes } from './approvals.ts';
import { eventRoutes } from './events.ts';
import { journalRoutes } from './journal.ts';
import { openaiRoutes } from './openai.ts';
import { pageRoutes } from './page.ts';
import { sessionRoutes } from './sessions.ts';
import { socketRoutes } from './socket.ts';
import { supervisorRoutes } from './supervisor.ts';
import { tokenRoutes } from './tokens.ts';
import { workRoutes } from './work.ts';

export const routeTable: readonly Route[] = [
  ...supervisorRoutes,
  ...tokenRoutes,
  ...sessionRoutes,
  ...actionRoutes,
  ...approvalRoutes,
  ...eventRoutes,
  ...journalRoutes,
  ...socketRoutes,
  ...workRoutes,
  ...openaiRoutes,
  ...pageRoutes,
];
