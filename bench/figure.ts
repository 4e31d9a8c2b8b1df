/** What a measurement is: a name to ask for it, and rows when it has run. */
import type { Lab } from './lab.ts';
import type { Section } from './report.ts';

export interface Figure {
  readonly name: string;
  /** Takes at most a few minutes; a few seconds in a quick lab. */
  run(lab: Lab): Promise<Section>;
}
