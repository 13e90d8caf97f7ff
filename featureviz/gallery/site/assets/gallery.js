/* What the pages of a gallery do beside being read: sort, filter, search, compare, keyboard. Each state is in the
   address. Names are only ever written as text, and addresses only taken if they have the form of a page's. */
"use strict";
(() => {
  const PAGE = /^(?:units|layers)\/[A-Za-z0-9.-]+\.html$/, UNIT = /^units\/[A-Za-z0-9.-]+\.html$/;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = $(".bar").dataset.root;
  const framed = window.parent !== window;

  // ------------------------------------------------------------------------------------------------------- the address
  const read = () => new URLSearchParams(location.hash.slice(1));
  function write(changes) {
    const state = read();
    for (const [name, value] of Object.entries(changes)) value ? state.set(name, value) : state.delete(name);
    const text = state.toString().replaceAll("%2F", "/");
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  // ------------------------------------------------------------------------------------------- the sheet of a layer
  function startSheet(sheet, tools) {
    const cards = $$(".unit", sheet), size = 12, output = $("output", tools);
    const names = new Intl.Collator("en", { numeric: true });
    const number = (card, key) => key in card.dataset ? Number(card.dataset[key]) : -Infinity;
    const orders = {
      unit: (a, b) => a.dataset.unit - b.dataset.unit,
      name: (a, b) => names.compare(a.dataset.name, b.dataset.name),
    };
    for (const { value: key } of tools.sort.options)
      orders[key] ??= (a, b) => number(b, key) - number(a, key) || orders.unit(a, b);

    function test(text) {
      const range = /^\s*(\d+)\s*-\s*(\d+)\s*$/.exec(text);
      if (range) return (card) => card.dataset.unit >= Number(range[1]) && card.dataset.unit <= Number(range[2]);
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      return (card) => words.every((word) => card.dataset.name.toLowerCase().includes(word));
    }
    function show() {
      const order = tools.sort.value, shown = cards.filter(test(tools.only.value)).sort(orders[order]);
      const chunks = [];
      for (let i = 0; i < shown.length; i += size) {
        const chunk = document.createElement("div");
        chunk.className = "chunk";
        chunk.append(...shown.slice(i, i + size));
        chunks.push(chunk);
      }
      sheet.replaceChildren(...chunks);
      output.value = shown.length < cards.length ? `${shown.length} of ${cards.length}` : "";
    }
    function follow() {
      const order = read().get("sort"), text = (read().get("only") ?? "").slice(0, 200);
      const known = [...tools.sort.options].some((option) => option.value === order) ? order : "unit";
      if (tools.sort.value === known && tools.only.value === text) return;
      [tools.sort.value, tools.only.value] = [known, text];
      show();
    }
    tools.hidden = false;
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.addEventListener("input", () => {
      write({ sort: tools.sort.value === "unit" ? "" : tools.sort.value, only: tools.only.value });
      show();
    });
    [tools.sort.value, tools.only.value] = ["unit", ""];
    follow();
    window.addEventListener("hashchange", follow);
  }

  // ----------------------------------------------------------------------------------------------------------- search
  let side = ""; // of the comparison that what is found goes to
  function loadNames(then) {
    if (window.galleryNames) return then();
    const loading = $("script[src$='search.js']");
    if (loading) return loading.addEventListener("load", then, { once: true });
    const script = document.createElement("script");
    script.src = `${root}assets/search.js`;
    script.addEventListener("load", then);
    script.addEventListener("error", () => ($("#find .hint").textContent = "The list of names could not be read."));
    document.head.append(script);
  }
  function find(text) {
    const { layers, units } = window.galleryNames, words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (name) => words.every((word) => name.toLowerCase().includes(word));
    const found = [];
    if (!side)
      for (const [name, page, gate] of layers) if (fits(name)) found.push({ name: gate ? `${name}, gates` : name, page });
    const exact = (unit) => words.length > 0 && String(unit[1]) === words.at(-1).split(":").at(-1);
    const some = words.length ? units.filter((unit) => fits(unit[2])) : [];
    some.sort((a, b) => exact(b) - exact(a));
    found.push(...some.map(([, , name, page, picture]) => ({ name, page, picture })));
    return found;
  }
  function startSearch() {
    const dialog = $("#find"), input = $("input", dialog), list = $("#found"), hint = $(".hint", dialog);
    let chosen = 0;
    function choose(i) {
      const links = $$("a", list);
      chosen = Math.max(0, Math.min(i, links.length - 1));
      links.forEach((link, k) => {
        link.classList.toggle("chosen", k === chosen);
        k === chosen ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
      });
      links[chosen]?.scrollIntoView({ block: "nearest" });
    }
    function show() {
      const all = find(input.value), most = 40;
      list.replaceChildren(...all.slice(0, most).map(({ name, page, picture }) => {
        const item = document.createElement("li"), link = document.createElement("a");
        const image = document.createElement(picture ? "img" : "i");
        if (picture) Object.assign(image, { src: root + picture, alt: "", width: 40, height: 40, loading: "lazy" });
        link.href = root + page;
        link.append(image, name);
        item.append(link);
        return item;
      }));
      const none = input.value ? "Nothing has this name." : "Type a name.";
      const many = `${all.length.toLocaleString("en")} found; the first ${most} are shown`;
      hint.textContent = all.length > most ? many : all.length ? "" : none;
      choose(0);
    }
    const open = (text = "") => {
      if (!dialog.open) dialog.showModal();
      input.value = text;
      input.select();
      loadNames(show);
    };
    input.addEventListener("input", () => {
      write({ find: input.value });
      loadNames(show);
    });
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) choose(chosen + step);
      else if (event.key === "Escape") dialog.close(); // at once, also where the field holds text
      else if (event.key === "Enter" && event.target === input) $$("a", list)[chosen]?.click();
      else return;
      event.preventDefault();
    });
    dialog.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (event.target === dialog) dialog.close();
      if (!link) return;
      write({ find: "" });
      if (!side) return;
      event.preventDefault();
      write({ [side]: link.getAttribute("href").slice(root.length) });
      dialog.close();
      window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
    dialog.addEventListener("close", () => {
      write({ find: "" });
      side = "";
    });
    const text = read().get("find");
    if (text) open(text.slice(0, 200));
    return open;
  }

  // ---------------------------------------------------------------------------------------------------- two units
  function startComparison(openSearch) {
    function follow() {
      for (const name of ["a", "b"]) {
        const frame = $(`iframe[name=${name}]`), page = read().get(name) ?? "", right = UNIT.test(page);
        frame.hidden = !right;
        frame.parentElement.querySelector(".empty").hidden = right;
        $(`[data-side=${name}]`).textContent = right ? "Choose another unit" : "Choose a unit";
        if (right && frame.dataset.page !== page) {
          frame.dataset.page = page;
          frame.contentWindow.location.replace(new URL(page, location.href));
        }
      }
    }
    for (const button of $$("[data-side]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        side = button.dataset.side;
        openSearch();
      });
    }
    window.addEventListener("hashchange", follow);
    window.addEventListener("message", ({ source, data }) => { // a link in a frame was followed
      const frame = $$("iframe").find((candidate) => candidate.contentWindow === source);
      if (!frame || typeof data?.page !== "string" || !UNIT.test(data.page)) return;
      frame.dataset.page = data.page;
      frame.title = String(data.title).slice(0, 300);
      write({ [frame.name]: data.page });
    });
    follow();
  }

  // --------------------------------------------------------------------------------------------------------- keyboard
  function step(by) {
    const cards = $$(".unit, .strip a, .several a:has(img)").filter((card) => card.checkVisibility());
    const at = cards.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : cards.length - 1) : Math.max(0, Math.min(at + by, cards.length - 1));
    cards[next]?.focus();
    cards[next]?.scrollIntoView({ block: "nearest" });
  }
  function columns() {
    const grid = document.activeElement.closest(".chunk, .strip, .several");
    return grid ? getComputedStyle(grid).gridTemplateColumns.split(" ").length : 1;
  }
  function startKeyboard(openSearch) {
    const turn = (rel) => $(`link[rel=${rel}]`)?.href;
    const go = (address) => address && (location.href = address);
    const keys = {
      "/": () => openSearch(), "?": () => $("#help").showModal(), n: () => go(turn("next")), p: () => go(turn("prev")),
      u: () => go(turn("up")), c: () => $("[data-key=c]")?.click(), j: () => step(1), k: () => step(-1),
    };
    const arrows = {
      ArrowRight: () => step(1), ArrowLeft: () => step(-1),
      ArrowDown: () => step(columns()), ArrowUp: () => step(-columns()),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if ($("dialog[open]") || event.target.closest("input, select")) return;
      const onCard = document.activeElement.closest(".unit, .strip a, .several a");
      const act = keys[event.key] ?? (onCard && arrows[event.key]);
      if (!act) return;
      event.preventDefault();
      act();
    });
  }

  if (framed) {
    document.documentElement.classList.add("framed");
    const page = location.pathname.split("/").slice(-2).join("/");
    if (PAGE.test(page)) window.parent.postMessage({ page, title: document.title }, "*");
  }
  $(".skip").addEventListener("click", (event) => { // the address keeps its state
    event.preventDefault();
    $("main").focus();
  });
  const sheet = $(".sheet");
  if (sheet) startSheet(sheet, $(".tools"));
  const openSearch = $("#find") ? startSearch() : () => {};
  const openers = { find: () => openSearch(), help: () => $("#help").showModal() };
  for (const button of $$("[data-opens]")) {
    button.hidden = false;
    button.addEventListener("click", openers[button.dataset.opens]);
  }
  if ($("[data-side]")) startComparison(openSearch);
  startKeyboard(openSearch);
})();
