// Small things of every page: menus that close, questions over the page, toasts,
// copying, logs that follow, forms with ways to choose from.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// Menus made of details close when one clicks elsewhere or presses Escape.
document.addEventListener("click", (event) => {
  for (const menu of $$("details[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of $$("details[data-menu][open]")) {
    menu.open = false;
    $("summary", menu).focus();
  }
});

// A link with data-dialog opens the question of the page it leads to. If that
// can't be had, the link does what links do.
const dialog = $("#dialog");
let opener = null;
const ask = async (link) => {
  try {
    const answer = await fetch(link.href, { headers: { "HX-Request": "true", Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = $("main .dialog--page", page);
    if (!answer.ok || answer.redirected || !content) throw new Error("there is no question");
    content.classList.remove("dialog--page");
    content.classList.replace("dialog", "dialog-content");
    dialog.replaceChildren(document.adoptNode(content));
    dialog.setAttribute("aria-labelledby", "question");
    dialog.removeAttribute("aria-label");
    dialog.classList.toggle("dialog--wide", content.classList.contains("dialog--wide"));
    opener = link;
    dialog.showModal();
  } catch {
    location.href = link.href;
  }
};
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (link && dialog && !event.defaultPrevented && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    ask(link);
  } else if (dialog?.open && (event.target === dialog || event.target.closest("#dialog [data-close]"))) {
    event.preventDefault();
    dialog.close();
  }
});
dialog?.addEventListener("close", () => {
  dialog.replaceChildren();
  opener?.focus();
});

// A form is sent once, even when one clicks twice.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  else event.target.dataset.sent = "true";
});
addEventListener("pageshow", () => $$("form[data-sent]").forEach((form) => delete form.dataset.sent));

// The filters of a table are sent as they change; they need no button.
document.addEventListener("change", (event) => {
  const form = event.target.closest?.("form[data-filters]");
  if (form && !form._htmx) form.requestSubmit();
});

// Focus goes to what is wrong with a form.
$("#form-errors") && $("[aria-invalid=true]")?.focus();

customElements.define("airlock-toast", class extends HTMLElement {
  connectedCallback() {
    if (this.firstElementChild && !$("[data-dismiss]", this)) {
      const close = document.createElement("button");
      close.type = "button";
      close.className = "button button--small button--quiet";
      close.dataset.dismiss = "";
      close.textContent = "Close";
      close.addEventListener("click", () => this.remove());
      this.append(close);
    }
    const leave = () => {
      if (this.matches(":hover, :focus-within")) setTimeout(leave, 4000);
      else this.remove();
    };
    setTimeout(leave, 12000);
  }
});

customElements.define("airlock-copy", class extends HTMLElement {
  connectedCallback() {
    if (!navigator.clipboard) return this.remove();
    const button = $("button", this);
    button.addEventListener("click", async () => {
      const words = $("span", button);
      await navigator.clipboard.writeText(document.getElementById(this.dataset.of).textContent);
      words.textContent = "Copied";
      setTimeout(() => (words.textContent = "Copy"), 3000);
    });
  }
});

// A log stays at its end while lines come, until one scrolls up.
customElements.define("airlock-log", class extends HTMLElement {
  connectedCallback() {
    const list = $(".log", this);
    if (!list || !("follow" in this.dataset)) return;
    let atEnd = true;
    const follow = () => atEnd && (list.scrollTop = list.scrollHeight);
    list.addEventListener("scroll", () => (atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24));
    new MutationObserver(follow).observe(list, { childList: true });
    follow();
  }
});

// Of the fields that go with one of several ways, those of the chosen way are
// there. What isn't shown isn't sent.
customElements.define("airlock-ways", class extends HTMLElement {
  connectedCallback() {
    const show = () => {
      const chosen = $("[data-way]:checked", this)?.value;
      for (const part of $$("[data-ways]", this)) {
        part.hidden = !part.dataset.ways.split(" ").includes(chosen);
        for (const input of $$("input, select, textarea", part)) input.disabled = part.hidden;
      }
    };
    this.addEventListener("change", show);
    show();
  }
});
