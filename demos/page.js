// What Gradio has no setting for.
"use strict";

window.bind2gen = {
  // The buttons and the places of a result come into view together, and messages of the last try go.
  show(...ids) {
    document.querySelectorAll(".toast-close").forEach((button) => button.click());
    const places = ids.map((id) => document.getElementById(id));
    const boxes = places.map((place) => place.getBoundingClientRect());
    if (boxes.every((box) => box.top >= 0 && box.bottom <= window.innerHeight)) return;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const tops = boxes.map((box) => box.top);
    places[tops.indexOf(Math.min(...tops))].scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  },
};

// The page is shown when its pieces, which Gradio loads one by one, have all come: a quarter of a second nothing new.
(() => {
  const QUIET = 250, PATIENCE = 20000; // ms
  const root = document.documentElement;
  root.classList.add("b2g-loading");
  const show = () => {
    watch.disconnect();
    root.classList.remove("b2g-loading");
  };
  let timer;
  const watch = new MutationObserver(() => {
    clearTimeout(timer);
    if (document.querySelector(".b2g-status")) timer = setTimeout(show, QUIET);
  });
  watch.observe(root, { childList: true, subtree: true });
  setTimeout(show, PATIENCE);
})();

// Browsers call .webm and .mp4 videos, also those that hold only sound, and Gradio's place for sounds takes none.
(() => {
  const asSound = (file) =>
    file.type.startsWith("video/") ? new File([file], file.name, { type: file.type.replace("video", "audio") }) : file;
  const asSounds = (files) => {
    const list = new DataTransfer();
    for (const file of files) list.items.add(asSound(file));
    return list;
  };
  const some = (files) => [...files].some((file) => file.type.startsWith("video/"));

  document.addEventListener(
    "change",
    ({ target }) => {
      if (target.type === "file" && target.accept.includes("audio") && some(target.files))
        target.files = asSounds(target.files).files;
    },
    true,
  );
  document.addEventListener(
    "drop",
    (event) => {
      const place = event.target.closest(".b2g-sound");
      if (!place || !some(event.dataTransfer.files)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      const dataTransfer = asSounds(event.dataTransfer.files);
      event.target.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
    },
    true,
  );
})();
