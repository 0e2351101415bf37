/** The page: reads the address, shows what it names, and writes it when the reader chooses. */

import { ask } from "./api.js";
import { searchUsers } from "./catalogue.js";
import { byId, counted, fill, waiting } from "./dom.js";
import { evidenceWaits, noEvidence, showEvidence } from "./evidence.js";
import { createExplanation } from "./explanation.js";
import { expertsWait, noExperts, showExperts } from "./experts.js";
import { createList } from "./list.js";
import { onKey, showProblem } from "./problems.js";
import { NOTHING, read, write } from "./state.js";
import { noTrust, showTrust, trustWaits } from "./trust.js";
import { createWhatIf } from "./what_if.js";
import { createWho } from "./who.js";

const NARROW = matchMedia("(max-width: 900px)");
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

class Page {
  constructor(about, firstUser) {
    this.about = about;
    this.firstUser = firstUser;
    this.state = null;
    const go = (change, quietly) => this.go(change, quietly);
    this.whatIf = createWhatIf(byId("what-if"), go, about);
    const who = createWho(byId("who"), go, { firstUser, hasData: about.has_data }, {
      known: (items) => this.whatIf.know(items),
      left: () => this.state.without.length && takeTo("what-if-title"),
    });
    const list = createList(byId("list"), go, (item) => this.why(item));
    const explanation = createExplanation(byId("explanation"), this.answers());
    this.views = [(state, before) => this.whatIf.show(state, before), who, list, explanation];
  }

  /** What happens besides when an explanation begins, ends or fails. */
  answers() {
    const [rests, experts, trust] = [byId("rests"), byId("experts"), byId("trust")];
    return {
      begin: () => [evidenceWaits(rests), expertsWait(experts), trustWaits(trust)],
      failed: () => [noEvidence(rests), noExperts(experts), noTrust(trust, this.about)],
      done: (answer, seconds) => {
        showEvidence(rests, answer);
        showExperts(experts, answer);
        showTrust(trust, answer, seconds);
        this.whatIf.carry((answer.evidence?.history ?? []).map((entry) => entry.item_id));
      },
    };
  }

  /** Changes the state; quietly where the reader did not choose, so that "back" does not stop there. */
  go(change, quietly = false) {
    const next = { ...this.state, ...change };
    const address = write(next);
    if (address !== location.hash) history[quietly ? "replaceState" : "pushState"](null, "", address);
    this.show(next);
  }

  show(next) {
    const before = this.state;
    this.state = next;
    for (const view of this.views) view(next, before);
  }

  /** Shows what the address names; whom it names nobody, the first user. */
  follow() {
    const named = read(location.hash);
    if (named.user || named.history) this.show(named);
    else this.go({ ...NOTHING, user: this.firstUser, history: this.firstUser ? null : [] }, true);
  }

  /** Explains an item that was chosen by hand; on a narrow screen the reader is taken there. */
  why(item) {
    this.go({ item, swap: this.state.swap });
    if (!NARROW.matches) return;
    takeTo("stage");
    byId("item-title").focus({ preventScroll: true });
  }
}

async function start() {
  const gate = byId("gate");
  fill(gate, waiting("Loading", 4));
  try {
    const about = await ask("v1/about");
    const { options } = await searchUsers("", undefined, 1);
    open(about, options[0]?.value ?? null);
  } catch (error) {
    byId("layout").hidden = true;
    showProblem(gate, error, start);
  }
}

function open(about, firstUser) {
  fill(byId("gate"));
  byId("layout").hidden = false;
  const sizes = `${counted(about.users, "user")} and ${counted(about.items, "item")}`;
  const name = about.name === "model" ? "This model" : about.name; // a demo's folder says no more
  byId("model-line").textContent = `${name} knows ${sizes}. Choose whom to recommend to, and ask why.`;
  const page = new Page(about, firstUser);
  window.onpopstate = () => page.follow();
  page.follow();
}

function takeTo(id) {
  byId(id).scrollIntoView({ behavior: CALM.matches ? "auto" : "smooth" });
}

/** In-page links would change the address, which holds the state. */
function jump(event, id) {
  event.preventDefault();
  takeTo(id);
  byId(id).focus({ preventScroll: true });
}

/** Keeps the left column in sight: it stays where its end, or its beginning, meets the window's. */
function pinRail() {
  const rail = byId("layout").firstElementChild;
  const pin = () => rail.style.setProperty("--rest", `${Math.min(16, innerHeight - rail.offsetHeight - 16)}px`);
  new ResizeObserver(pin).observe(rail);
  window.addEventListener("resize", pin);
}

pinRail();
byId("skip").addEventListener("click", (event) => jump(event, "stage"));
byId("back").addEventListener("click", (event) => jump(event, "list-title"));
onKey(start);
start();
