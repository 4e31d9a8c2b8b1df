/** A program for one moment: reads the configuration for one command in the sandbox and becomes the
 *  sandbox program. Not the supervisor's own, because loading that costs twice as long. */
import { toPrxError } from '../base/errors.ts';
import { findPrograms } from './launch.ts';
import { planSandboxMode } from './sandbox-mode.ts';

const FAILED = 1;

/** Returns only when it could not. */
function becomeSandbox(): number {
  const programs = findPrograms(import.meta.filename, process.execPath);
  const plan = planSandboxMode(process.argv[2] ?? '', programs, process.env);
  if ('exit' in plan) {
    process.stderr.write(`prx-supervisor: ${plan.message}\n`);
    return plan.exit;
  }
  try {
    process.execve?.(plan.command, [plan.command, ...plan.args], plan.env);
  } catch (error) {
    process.stderr.write(`prx-supervisor: ${toPrxError(error).message}\n`);
  }
  return FAILED;
}

process.exitCode = becomeSandbox();
