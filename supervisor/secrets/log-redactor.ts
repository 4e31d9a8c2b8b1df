/** Takes secrets out of log lines: the values of named variables (the provider's key and its like),
 *  and what the vault holds, once it can be asked. */

export interface LogRedactor {
  /** A line without them. Never throws. */
  redact(line: string): string;
  /** From now on also without the values of the vault. */
  setVault(redact: (text: string) => string): void;
}

/** Shorter ones are no secrets, and would make nonsense of lines. */
const CHARS_MIN = 8;

/** @param values  by the name that stands in their place. */
export function createLogRedactor(
  values: Readonly<Record<string, string | undefined>>,
): LogRedactor {
  const known = Object.entries(values).flatMap(([name, value = '']) =>
    value.length < CHARS_MIN ? [] : toForms(value).map((form) => [form, name] as const),
  );
  let vault: (text: string) => string = (text) => text;
  let isAsking = false;
  return {
    redact(line) {
      const own = known.reduce(
        (text, [form, name]) => text.replaceAll(form, `[secret ${name}]`),
        line,
      );
      // The vault has something to say about itself: a line without any value.
      if (isAsking) return own;
      isAsking = true;
      try {
        return vault(own);
      } finally {
        isAsking = false;
      }
    },
    setVault(redact) {
      vault = redact;
    },
  };
}

/** As it is, and as it stands in JSON. */
function toForms(value: string): readonly string[] {
  const escaped = JSON.stringify(value).slice(1, -1);
  return escaped === value ? [value] : [escaped, value];
}
