// Keys. Nothing happens while one types, and none is taken that the browser or a
// screen reader uses with Control, Alt or Command.

const typing = (target) => target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
let going = 0; // when g was pressed

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented || event.isComposing) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog:modal")) return;
  const key = event.key;
  if (going && event.timeStamp - going < 1500) {
    going = 0;
    const link = document.querySelector(`.rail [data-go="${CSS.escape(key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
      return;
    }
  }
  if (key === "g") {
    going = event.timeStamp;
    return;
  }
  const target = [...document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find((one) => one.checkVisibility());
  if (!target) return;
  event.preventDefault();
  if (target.matches("input, textarea, select")) target.focus();
  else target.click();
});
