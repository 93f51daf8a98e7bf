/** The way in: a token, or a link that `weft ui` makes. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { Icon } from "../parts/icons";
import { Trouble } from "../parts/marks";
import { signIn } from "../session";

export function SignIn({ failure }: { failure: unknown }): JSX.Element {
  const error = useSignal<unknown>(null);
  const refused = error.value ?? failure;
  const busy = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const token = String(new FormData(form).get("token") ?? "").trim();
    [busy.value, error.value] = [true, null];
    try {
      await signIn({ token });
    } catch (reason) {
      error.value = reason;
    }
    busy.value = false;
  };
  return (
    <main class="sign-in" id="main">
      <form onSubmit={submit}>
        <h1>Weft</h1>
        <p>
          Run <code>weft ui</code> for a link that signs in once, or give the operator's token.
        </p>
        <label>
          Token
          <input name="token" type="password" autocomplete="off" required autofocus placeholder="weftop.…" />
        </label>
        {refused !== null && <Trouble error={refused} />}
        <button type="submit" class="primary" disabled={busy.value}>
          <Icon name="key" /> Sign in
        </button>
        <p class="note">
          The token is in <code>operator.token</code>, in the control plane's data directory. It is exchanged
          for a session of this browser, which reads only until you enable changes.
        </p>
      </form>
    </main>
  );
}
