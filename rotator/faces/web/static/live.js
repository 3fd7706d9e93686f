// Tells the page when the journal has something new; htmx then fetches it and changes what differs.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live || !live.hasAttribute("data-hx-get") || !window.EventSource) return;
  const source = new EventSource("/events");
  let pending = false;
  const update = () => {
    if (document.hidden) { pending = true; return; }
    pending = false;
    document.body.dispatchEvent(new Event("journal"));
  };
  source.addEventListener("journal", update);
  document.addEventListener("visibilitychange", () => { if (pending) update(); });
})();
