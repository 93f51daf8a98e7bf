/** The frame: where one can go, how fresh what is shown is, and who is signed in. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { mayRead } from "./access";
import { duration, plural } from "./format";
import { authority, features, heardAt, isIntroduced, SILENCE, trouble, unheard, watchMesh } from "./live";
import { Access } from "./pages/access";
import { Audit } from "./pages/audit";
import { Certificates } from "./pages/certificates";
import { Findings } from "./pages/findings";
import { History } from "./pages/history";
import { Mesh } from "./pages/mesh";
import { Policies } from "./pages/policies";
import { NewDocument, PolicyPage } from "./pages/policy";
import { Proxies } from "./pages/proxies";
import { ProxyPage } from "./pages/proxy";
import { RequestPage, Requests } from "./pages/requests";
import { RevisionPage } from "./pages/revision";
import { Service } from "./pages/service";
import { SignIn } from "./pages/sign_in";
import { Tap } from "./pages/tap";
import { Icon, type IconName } from "./parts/icons";
import { Empty } from "./parts/marks";
import { objects } from "./policies";
import { Link, parts } from "./router";
import { begin, mayChange, rememberWhere, session, setMode, signOut } from "./session";
import { theme, toggleTheme } from "./theme";

export function App(): JSX.Element {
  const failure = useSignal<unknown>(null);
  useEffect(() => {
    begin().catch((error) => {
      failure.value = error;
    });
  }, [failure]);
  if (session.value === "unknown") return <Empty>…</Empty>;
  if (session.value === "no") {
    rememberWhere();
    return <SignIn failure={failure.value} />;
  }
  return <Inside />;
}

function Inside(): JSX.Element {
  useEffect(() => {
    objects.value = null;
    return watchMesh();
  }, []);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        {isIntroduced.value ? <Page /> : <Empty>Asking the control plane…</Empty>}
      </main>
    </>
  );
}

interface Place {
  to: string;
  name: string;
  icon: IconName;
  /** Paths that begin so belong to it. */
  roots: string[];
  isThere?: () => boolean;
}

const PLACES: Place[] = [
  { to: "", name: "Mesh", icon: "graph", roots: ["", "services"] },
  { to: "proxies", name: "Proxies", icon: "proxy", roots: ["proxies"] },
  { to: "policies", name: "Policies", icon: "pen", roots: ["policies", "apply", "history"] },
  { to: "certificates", name: "Certificates", icon: "lock", roots: ["certificates"] },
  {
    to: "requests",
    name: "Failures",
    icon: "why",
    roots: ["requests"],
    isThere: () => features.value.requests && mayRead("Traffic"),
  },
  {
    to: "tap",
    name: "Tap",
    icon: "tap",
    roots: ["tap"],
    isThere: () => features.value.taps && mayRead("Tap"),
  },
  {
    to: "access",
    name: "Access",
    icon: "key",
    roots: ["access", "audit"],
    isThere: () => features.value.access,
  },
  {
    to: "check",
    name: "Check",
    icon: "check",
    roots: ["check"],
    isThere: () => features.value.findings && mayRead("Proxy"),
  },
];

function Header(): JSX.Element {
  const root = parts.value[0] ?? "";
  const nav = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a small screen not all places are in sight; the one where somebody is has to be.
    nav.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [root]);
  return (
    <header class="top">
      <Link class="brand" to="">
        <span class="logo" aria-hidden="true" />
        <b>weft</b> <small>{authority.value?.trustDomain}</small>
      </Link>
      <nav aria-label="Pages" ref={nav}>
        {PLACES.filter((place) => place.isThere?.() ?? true).map(({ to, name, icon, roots }) => (
          <Link key={to} to={to} current={roots.includes(root)}>
            <Icon name={icon} /> <span>{name}</span>
          </Link>
        ))}
      </nav>
      <div class="state">
        <Freshness />
        <Changes />
        <button
          type="button"
          class="tool"
          onClick={toggleTheme}
          aria-label="Light or dark"
          title="Light or dark"
        >
          <Icon name={theme.value === "dark" ? "sun" : "moon"} />
        </button>
        <button type="button" class="quiet" onClick={() => void signOut().catch(() => undefined)}>
          Sign out
        </button>
      </div>
    </header>
  );
}

function Freshness(): JSX.Element {
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      now.value = Date.now();
    }, 2_000);
    return () => clearInterval(timer);
  }, [now]);
  const age = now.value - heardAt.value;
  const isOld = heardAt.value > 0 && age > SILENCE;
  const missing = unheard.value > 0 ? `${plural(unheard.value, "control plane")} not heard` : null;
  const words = trouble.value ?? (isOld ? `nothing new for ${duration(age / 1000)}` : missing);
  return (
    <span
      class={`freshness ${words ? "bad" : ""}`}
      role="status"
      title={words ?? "numbers move as they come"}
    >
      <span class={`dot ${words ? "bad" : heardAt.value > 0 ? "good" : "quiet"}`} />
      {words ?? (heardAt.value > 0 ? "live" : "connecting")}
    </span>
  );
}

function Changes(): JSX.Element {
  const error = useSignal<string | null>(null);
  const toggle = () => {
    setMode(mayChange() ? "ReadOnly" : "Changes").then(
      () => {
        error.value = null;
      },
      (failure: Error) => {
        error.value = failure.message;
      },
    );
  };
  return (
    <button
      type="button"
      role="switch"
      class="switch"
      aria-checked={mayChange()}
      title={error.value ?? "Whether this session may change anything"}
      onClick={toggle}
    >
      <span class="knob" aria-hidden="true" />
      <span>{mayChange() ? "Changes enabled" : "Enable changes"}</span>
    </button>
  );
}

function Page(): JSX.Element {
  const [root = "", first = "", second = "", third = "", fourth = ""] = parts.value;
  if (root === "") return <Mesh />;
  if (root === "services" && second) return <Service key={`${first}/${second}`} id={`${first}/${second}`} />;
  if (root === "proxies") return second ? <ProxyPage id={`${first}/${second}`} /> : <Proxies />;
  if (root === "policies" && third) {
    const view = fourth === "edit" || fourth === "history" ? fourth : "document";
    return <PolicyPage kind={first} namespace={second} name={third} view={view} />;
  }
  if (root === "policies") return <Policies />;
  if (root === "apply") return <NewDocument />;
  if (root === "history" && Number(first) > 0) {
    return <RevisionPage key={first} revision={Number(first)} isBack={second === "rollback"} />;
  }
  if (root === "history") return <History />;
  if (root === "access") return <Access />;
  if (root === "audit") return <Audit />;
  if (root === "check") return <Findings />;
  if (root === "certificates") return <Certificates />;
  if (root === "requests") return first ? <RequestPage id={first} /> : <Requests />;
  if (root === "tap") return <Tap />;
  return <Empty>There is no such page. The navigation above shows what there is.</Empty>;
}
