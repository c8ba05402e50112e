// What a reader did to an element stays when the element is brought up to date:
// typed text, ticked boxes and chosen options are kept. (That open details stay
// open and selected rows selected is in htmx's own settings, morphIgnore.)
const touched = (input) =>
  (input instanceof HTMLTextAreaElement && input.value !== input.defaultValue) ||
  (input instanceof HTMLInputElement &&
    (["checkbox", "radio"].includes(input.type) ? input.checked !== input.defaultChecked : input.value !== input.defaultValue)) ||
  (input instanceof HTMLSelectElement && [...input.options].some((o) => o.selected !== o.defaultSelected));

htmx.registerExtension("airlock", {
  htmx_before_morph_node: (old) => !touched(old),
});
