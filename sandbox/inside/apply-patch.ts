/** apply_patch: several files, all or nothing. First everything is read and computed, then written
 *  beside its place, then put in place; what fails before the last step has touched nothing, and
 *  what fails in it is taken back. */
import { rmSync } from 'node:fs';
import type { z } from 'zod';
import type { Random } from '../../base/random.ts';
import { type FileChange, readPatch } from '../../protocol/patch.ts';
import type { applyPatchArgumentsSchema } from '../../protocol/tools.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { fitDiff } from './fit-diff.ts';
import { fitHunks } from './fit-hunks.ts';
import { decodeExact, readWhole } from './open-file.ts';
import { exists, findReal, refuseGuarded, resolvePath, toShownPath } from './paths.ts';
import { replaceFile, type StagedFile, stageFile } from './replace-file.ts';
import { type FileContext, type FileResult, toOk } from './result.ts';

type Context = FileContext & { readonly random: Random };

/** A file as the patch leaves it. */
interface Plan {
  readonly absolute: string;
  readonly shown: string;
  /** Undefined: it was not there. */
  readonly before: Buffer | undefined;
  /** Undefined: it goes. */
  after: string | undefined;
}

const FILE_BYTES_MAX = 20 * 1024 * 1024;

export function applyPatch(
  args: z.infer<typeof applyPatchArgumentsSchema>,
  context: Context,
): FileResult {
  const parsed = readPatch(args.patch);
  if (parsed.kind === 'problem') throw new ToolFailure(parsed.problem);
  const plans = new Map<string, Plan>();
  const lines = parsed.changes.map((change, index) => {
    try {
      return planChange(change, plans, context);
    } catch (thrown) {
      const error = toToolFailure(thrown, 'change', change.path);
      if (!(error instanceof ToolFailure)) throw error;
      const where = `change of file ${index + 1} of ${parsed.changes.length}`;
      throw new ToolFailure(`nothing was changed: ${where}: ${error.message}`);
    }
  });
  refuseTwins([...plans.values()]);
  carryOut([...plans.values()], context.random);
  return toOk(['Done:', ...lines].join('\n'));
}

/** Computes one change on top of those before it; says it in one line. */
function planChange(change: FileChange, plans: Map<string, Plan>, context: Context): string {
  const plan = openPlan(change.path, plans, context);
  const { shown } = plan;
  if (change.kind === 'add') {
    if (plan.after !== undefined) {
      throw new ToolFailure(`${shown} exists already; change it with "*** Update File: ${shown}"`);
    }
    plan.after = change.content;
    return `A ${shown}`;
  }
  const old = plan.after;
  if (old === undefined) {
    throw new ToolFailure(`${shown} does not exist; use list_files or glob to see what does`);
  }
  if (change.kind === 'delete') {
    plan.after = undefined;
    return `D ${shown}`;
  }
  const text = toChanged(old, change, shown);
  if (change.moveTo === undefined) {
    plan.after = text;
    return `M ${shown}`;
  }
  const target = openPlan(change.moveTo, plans, context);
  if (target.after !== undefined) throw new ToolFailure(`${target.shown} exists already`);
  plan.after = undefined;
  target.after = text;
  return `R ${shown} -> ${target.shown}`;
}

function toChanged(
  old: string,
  change: Extract<FileChange, { kind: 'update' | 'diff' }>,
  shown: string,
): string {
  if (change.kind === 'update') return fitHunks(old, change.hunks, shown);
  const text = fitDiff(old, change.diff);
  if (text !== undefined) return text;
  throw new ToolFailure(
    `the diff does not fit ${shown}: its context or removed lines are not what the file has; ` +
      'read the file again and copy the lines exactly',
  );
}

function openPlan(path: string, plans: Map<string, Plan>, context: Context): Plan {
  const absolute = resolvePath(context.workspace, path);
  refuseGuarded(context.workspace, absolute);
  const known = plans.get(absolute);
  if (known !== undefined) return known;
  const shown = toShownPath(context.workspace, absolute);
  const before = exists(absolute)
    ? readWhole(context.workspace, absolute, FILE_BYTES_MAX)
    : undefined;
  const after = before === undefined ? undefined : decodeExact(before, shown);
  const plan = { absolute, shown, before, after };
  plans.set(absolute, plan);
  return plan;
}

/** Each was computed from the file as it is: of two names of one, the last would win. */
function refuseTwins(plans: readonly Plan[]): void {
  const names = new Map<string, string>();
  for (const { absolute, shown, after } of plans) {
    if (after === undefined) continue;
    const real = findReal(absolute);
    const other = names.get(real);
    if (other !== undefined) {
      const message = `${shown} and ${other} are the same file; name it by one of them`;
      throw new ToolFailure(`nothing was changed: ${message}`);
    }
    names.set(real, shown);
  }
}

function carryOut(plans: readonly Plan[], random: Random): void {
  const staged: { readonly plan: Plan; readonly file: StagedFile }[] = [];
  const done: Plan[] = [];
  let current = '';
  try {
    for (const plan of plans) {
      current = plan.shown;
      if (plan.after === undefined || plan.before?.equals(Buffer.from(plan.after))) continue;
      staged.push({ plan, file: stageFile(plan.absolute, plan.after, random.hex(4)) });
    }
    for (const { plan, file } of staged) {
      current = plan.shown;
      file.commit();
      done.push(plan);
    }
    for (const plan of plans) {
      current = plan.shown;
      if (plan.after !== undefined || plan.before === undefined) continue;
      rmSync(plan.absolute);
      done.push(plan);
    }
  } catch (error) {
    for (const { file } of staged) file.abandon();
    const lost = done.reverse().filter((plan) => !takeBack(plan, random));
    const failure = toToolFailure(error, 'write', current);
    const why = failure instanceof Error ? failure.message : String(failure);
    if (lost.length === 0) throw new ToolFailure(`nothing was changed: ${why}`);
    const names = lost.map(({ shown }) => shown).join(', ');
    throw new ToolFailure(`${why}; and these could not be put back as they were: ${names}`);
  }
}

function takeBack({ absolute, before }: Plan, random: Random): boolean {
  try {
    if (before === undefined) rmSync(absolute, { force: true });
    else replaceFile(absolute, before, random.hex(4));
    return true;
  } catch {
    // Told by name to the model.
    return false;
  }
}
