/** apply_patch: several files, all or nothing. First everything is read and computed, then written
 *  beside its place, then put in place; what fails before the last step has touched nothing, and
 *  what fails in it is taken back. */
import { lstatSync, readlinkSync, rmSync, statSync, symlinkSync } from 'node:fs';
import type { z } from 'zod';
import type { Random } from '../../base/random.ts';
import { type FileChange, readPatch } from '../../protocol/patch.ts';
import type { applyPatchArgumentsSchema } from '../../protocol/tools.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { BYTE_ORDER_MARK, fitDiff } from './fit-diff.ts';
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
  readonly before: Before | undefined;
  /** Undefined: it goes. */
  after: After | undefined;
}

interface Before {
  readonly bytes: Buffer;
  readonly mode: number;
  /** What it leads to, where it is a symbolic link. */
  readonly link: string | undefined;
}

interface After {
  readonly text: string;
  /** Undefined: as it is at its place, or as a new file has it. */
  readonly mode: number | undefined;
}

const FILE_BYTES_MAX = 20 * 1024 * 1024;
const MODE_EXECUTABLE = 0o111;
const MODE_NEW_PROGRAM = 0o755;

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
    const mode = change.isExecutable ? MODE_NEW_PROGRAM : undefined;
    plan.after = { text: change.content, mode };
    return `A ${shown}`;
  }
  const old = plan.after;
  if (old === undefined) {
    throw new ToolFailure(`${shown} does not exist; use list_files or glob to see what does`);
  }
  if (change.kind === 'delete') {
    refuseOther(old.text, change, shown);
    plan.after = undefined;
    return `D ${shown}`;
  }
  const text = toChanged(old.text, change, shown);
  const mode = toMode(old.mode ?? plan.before?.mode, change);
  if (change.moveTo === undefined) {
    plan.after = { text, mode };
    return `M ${shown}`;
  }
  const target = openPlan(change.moveTo, plans, context);
  if (target.after !== undefined) throw new ToolFailure(`${target.shown} exists already`);
  plan.after = undefined;
  target.after = { text, mode };
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

/** A diff that deletes a file shows what it deletes. */
function refuseOther(
  old: string,
  { diff }: Extract<FileChange, { kind: 'delete' }>,
  shown: string,
): void {
  if (diff === undefined || diff.isBinary) return;
  if (['', BYTE_ORDER_MARK].includes(fitDiff(old, diff) ?? old)) return;
  throw new ToolFailure(
    `${shown} is not deleted: the removed lines of the diff are not all that the file has; ` +
      'read the file again',
  );
}

/** A file keeps its mode, also where it moves to. */
function toMode(mode: number | undefined, change: FileChange): number | undefined {
  if (mode === undefined || change.kind !== 'diff' || change.isExecutable === undefined) {
    return mode;
  }
  return change.isExecutable ? mode | MODE_EXECUTABLE : mode & ~MODE_EXECUTABLE;
}

function openPlan(path: string, plans: Map<string, Plan>, context: Context): Plan {
  const absolute = resolvePath(context.workspace, path);
  refuseGuarded(context.workspace, absolute);
  const known = plans.get(absolute);
  if (known !== undefined) return known;
  const shown = toShownPath(context.workspace, absolute);
  const before = exists(absolute) ? readBefore(context.workspace, absolute) : undefined;
  const after =
    before === undefined ? undefined : { text: decodeExact(before.bytes, shown), mode: undefined };
  const plan = { absolute, shown, before, after };
  plans.set(absolute, plan);
  return plan;
}

function readBefore(workspace: string, absolute: string): Before {
  const bytes = readWhole(workspace, absolute, FILE_BYTES_MAX);
  const link = lstatSync(absolute).isSymbolicLink() ? readlinkSync(absolute) : undefined;
  return { bytes, mode: statSync(absolute).mode, link };
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
      if (plan.after === undefined || isAsBefore(plan.before, plan.after)) continue;
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
    const lost = done.reverse().filter((plan) => !takeBack(plan, random));
    // The last one first: its folders may lie in those of the others.
    for (const { file } of staged.reverse()) file.abandon();
    const failure = toToolFailure(error, 'write', current);
    const why = failure instanceof Error ? failure.message : String(failure);
    if (lost.length === 0) throw new ToolFailure(`nothing was changed: ${why}`);
    const names = lost.map(({ shown }) => shown).join(', ');
    throw new ToolFailure(`${why}; and these could not be put back as they were: ${names}`);
  }
}

function isAsBefore(before: Before | undefined, { text, mode }: After): boolean {
  const isSameMode = mode === undefined || mode === before?.mode;
  return isSameMode && before?.bytes.equals(Buffer.from(text)) === true;
}

function takeBack({ absolute, before }: Plan, random: Random): boolean {
  try {
    if (before === undefined) rmSync(absolute, { force: true });
    else if (before.link !== undefined && !exists(absolute)) symlinkSync(before.link, absolute);
    else replaceFile(absolute, { text: before.bytes, mode: before.mode }, random.hex(4));
    return true;
  } catch {
    // Told by name to the model.
    return false;
  }
}
