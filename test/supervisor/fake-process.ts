/** A process that is none: what a test sees of it, and how it dies. */
import type { ProcessExit, ProcessSpec } from '../../base/process.ts';

export type Room = 'worker' | 'gateway' | 'sandbox' | 'mcp';

export interface FakeProcess {
  readonly room: Room;
  readonly spec: ProcessSpec;
  readonly pid: number;
  isAlive(): boolean;
  /** Dies at once. */
  die(exit?: Partial<ProcessExit>, stderr?: string): void;
}
