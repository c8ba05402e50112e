// <airlock-table>: moves through the rows of a table by keys, selects them, and
// says in the bar below what would be done to how many.

// write sets a property only where it changes, so that the observer comes to rest.
const write = (element, name, value) => {
  if (element[name] !== value) element[name] = value;
};

let active = null; // the table that the keys are for

customElements.define("airlock-table", class extends HTMLElement {
  connectedCallback() {
    this.anchor = null;
    this.addEventListener("click", (event) => this.clicked(event));
    this.addEventListener("change", () => this.tell());
    this.addEventListener("focusin", () => (active = this));
    active = active?.isConnected ? active : this;
    this.observer = new MutationObserver(() => this.tell());
    this.observer.observe(this, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["id", "hidden"] });
    this.tell();
  }

  disconnectedCallback() {
    this.observer.disconnect();
    if (active === this) active = null;
  }

  get rows() { return [...this.querySelectorAll("tbody > tr[data-key]")]; }
  get cursor() { return this.querySelector("tr[data-cursor]"); }
  get picks() { return [...this.querySelectorAll("[data-pick]")]; }

  // move puts the cursor on a row, and the focus on what opens it.
  move(step) {
    const rows = this.rows;
    if (!rows.length) return;
    const at = rows.indexOf(this.cursor);
    const row = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1)];
    this.point(row);
    const target = row.querySelector("a.title-link, a.expander, a, button, [data-pick]");
    if (target) target.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  point(row) {
    this.cursor?.removeAttribute("data-cursor");
    row?.setAttribute("data-cursor", "");
  }

  open(selector) {
    const target = this.cursor?.querySelector(selector);
    target?.click();
    return Boolean(target);
  }

  clicked(event) {
    const row = event.target.closest("tbody > tr[data-key]");
    if (row) this.point(row);
    const pick = event.target.closest("[data-pick]");
    if (pick) this.pick(pick, pick.checked, event.shiftKey);
    if (event.target.closest("[data-all]")) this.every(event.target.checked);
    if (event.target.closest("[data-clear]")) this.every(false);
  }

  // pick selects a row; with range all from the one that was picked before.
  pick(box, on, range) {
    const picks = this.picks;
    const from = picks.findIndex((one) => one.closest("tr").dataset.key === this.anchor);
    const to = picks.indexOf(box);
    const some = range && from >= 0 ? picks.slice(Math.min(from, to), Math.max(from, to) + 1) : [box];
    for (const one of some) one.checked = on;
    this.anchor = box.closest("tr").dataset.key;
    this.tell();
  }

  toggle(range) {
    const box = this.cursor?.querySelector("[data-pick]");
    if (box) this.pick(box, range || !box.checked, range);
    return Boolean(box);
  }

  every(on) {
    for (const one of this.picks) one.checked = on;
    const everything = this.querySelector("[data-everything]");
    if (everything && !on) everything.checked = false;
    this.tell();
  }

  // tell shows what is selected.
  tell() {
    const bar = this.querySelector("[data-bulk]");
    if (!bar) return;
    const picks = this.picks;
    const everything = this.querySelector("[data-everything]");
    let count = 0;
    for (const one of picks) {
      const row = one.closest("tr");
      if (one.checked) count++;
      if (one.checked !== row.hasAttribute("data-selected")) row.toggleAttribute("data-selected", one.checked);
    }
    const total = Number(this.dataset.total) || picks.length;
    const all = this.querySelector("[data-all]");
    all.checked = count > 0 && count === picks.length;
    all.indeterminate = count > 0 && count < picks.length;
    if (everything) write(everything.closest("label"), "hidden", !all.checked);
    if (everything && !all.checked) everything.checked = false;
    const number = (everything?.checked ? total : count).toLocaleString("en");
    write(bar.querySelector("[data-count]"), "textContent", `${number} of ${total.toLocaleString("en")} selected`);
    for (const button of bar.querySelectorAll("[data-verb]"))
      write(button.querySelector("[data-words]"), "textContent", `${button.dataset.verb} ${number}${button.dataset.after}`);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (!active?.isConnected) active = document.querySelector("airlock-table");
  if (!active || event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")) return;
  if (document.querySelector("dialog:modal")) return;
  const key = event.key;
  let done = true;
  if (key === "j") active.move(1);
  else if (key === "k") active.move(-1);
  else if (key === "x" || key === "X") done = active.toggle(event.shiftKey);
  else if (key === "o") done = active.open("a.expander");
  else if (key === "Enter" && !event.target.closest("a, button, summary, input")) done = active.open("a.title-link") || active.open("a.expander");
  else done = false;
  if (done) event.preventDefault();
});
