// Live pages. Elements with data-live name the topics that change them. One
// stream a tab tells of all of them; what is told of is asked for anew, from the
// page's own address, and each element takes over what its namesake in the
// answer has. While the tab is hidden there is no stream; when it comes back,
// everything is looked at once.

let stream = null;
let listening = "";
let wait = 0;
let busy = false;
const due = new Set();

const elements = () => [...document.querySelectorAll("[data-live][id]")];
const topicsOf = (element) => element.dataset.live.split(" ").filter(Boolean);

const refresh = async () => {
  if (busy || !due.size || document.hidden) return;
  busy = true;
  const topics = new Set(due);
  due.clear();
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { "HX-Request": "true", "HX-Live": "true", Accept: "text/html" } });
    if (answer.status === 401) return over();
    if (answer.ok && !answer.redirected) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const element of elements()) {
        const now = page.getElementById(element.id);
        if (!now || !topicsOf(element).some((topic) => topics.has(topic) || topics.has("*"))) continue;
        if (now.isEqualNode(element)) continue;
        await htmx.swap({ sourceElement: element, target: element, swap: "outerMorph ignoreTitle:true", text: now.outerHTML });
        document.dispatchEvent(new CustomEvent("airlock:live", { detail: { id: element.id } }));
      }
    }
  } catch {
    // The server can't be reached: the stream says when it can be again.
  } finally {
    busy = false;
    follow();
    if (due.size) refresh();
  }
};

const over = () => {
  stream?.close();
  stream = null;
  listening = "ended";
  const toast = document.createElement("airlock-toast");
  toast.className = "toast";
  toast.innerHTML = `<span>You are signed out. What is shown may be old.</span>`;
  const link = document.createElement("a");
  link.className = "button button--small";
  link.href = "/sign-in";
  link.textContent = "Sign in";
  toast.append(link);
  document.getElementById("toasts")?.append(toast);
};

// follow opens the stream of what is on the page now, if it isn't open.
const follow = () => {
  if (listening === "ended") return;
  const topics = document.hidden ? "" : [...new Set(elements().flatMap(topicsOf))].sort().join(",");
  if (topics === listening && stream) return;
  stream?.close();
  stream = null;
  listening = topics;
  if (!topics) return;
  const mine = new EventSource("/events?topics=" + encodeURIComponent(topics));
  stream = mine;
  mine.onopen = () => (wait = 0);

  mine.addEventListener("topic", (event) => {
    due.add(event.data);
    refresh();
  });
  // What was told between the page and its stream was missed.
  mine.addEventListener("hello", () => {
    document.documentElement.dataset.stream = "open";
    due.add("*");
    refresh();
  });
  mine.addEventListener("ended", over);
  mine.addEventListener("error", () => {
    delete document.documentElement.dataset.stream;
    if (mine !== stream || mine.readyState !== EventSource.CLOSED) return;
    stream = null;
    listening = "";
    wait = Math.min((wait || 1000) * 2, 60000);
    setTimeout(follow, wait * (0.7 + 0.6 * Math.random()));
  });
};

document.addEventListener("visibilitychange", follow);
document.addEventListener("htmx:after:swap", () => !busy && follow());
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  stream = null;
  listening = "";
  follow();
});
follow();
