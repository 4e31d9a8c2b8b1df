/** The namespaces of a worker, as arguments. */
import { expect, test } from '@jest/globals';
import { toWorkerLaunch } from '../../sandbox/launch/worker-launch.ts';

const input = {
  bwrap: '/bin/bwrap',
  perl: undefined,
  arch: 'x64',
  ownUid: 1000,
  system: [
    { kind: 'bind', path: '/usr' },
    { kind: 'bind', path: '/etc/ssl' },
  ],
  readable: ['/opt/node', '/app/worker.js'],
} as const;

test('[promise:nothing-outlives] a worker in namespaces dies with who started it', () => {
  expect(toWorkerLaunch(input)?.prefix).toContain('--die-with-parent');
});

test('a worker has no network, no other process and no file but its program', () => {
  const { prefix = [], confinement } = toWorkerLaunch(input) ?? {};
  expect(prefix).toEqual(expect.arrayContaining(['--unshare-net', '--unshare-pid', '--cap-drop']));
  const shown = prefix.filter((_, index) => /^--(ro-)?bind(-try)?$/.test(prefix[index - 2] ?? ''));
  expect(shown).toEqual(['/usr', ...input.readable]);
  expect(confinement).toEqual(['net-namespace', 'pid-namespace', 'mount-namespace']);
});

test('root without a way to stage its program starts no worker as root', () => {
  expect(toWorkerLaunch({ ...input, ownUid: 0 })).toBeUndefined();
});
