/** The home of the user that we run as. In a container it may be a bare number: without an account
 *  and with HOME unset or empty. Never a relative path: what lies there would follow the caller. */
import { userInfo } from 'node:os';

/** Where the accounts of bare service users point to as well: nobody can write there, so what would
 *  have to lie in a home is refused by name, and all else works. */
const NOWHERE = '/nonexistent';

export function homeOf(env: Readonly<Record<string, string | undefined>>): string {
  return env['HOME'] || findAccount()?.homedir || NOWHERE;
}

/** @returns undefined: the user has no account. */
export function findUserName(): string | undefined {
  return findAccount()?.username;
}

function findAccount(): { readonly username: string; readonly homedir: string } | undefined {
  try {
    return userInfo();
  } catch {
    return undefined;
  }
}
