"use strict";
// Data: { title, total, past, failing, messages: [kind of message], entries }. An entry is
// [kind, lane, seconds, text, parents, a, b]: lane -1 is none, parents are rows before it, and by kind
//   requested: a = wrote, b = acknowledged; sent: a = to, b = kind of message;
//   delivered, duplicated: a = from, b = row of the sending; lost: b = row of the sending;
//   link-up, link-down: a = peer; cut-*: a = from, b = to; copied: a = new lane;
//   sync-done, sync-failed: b = row of the beginning; restored: b = row of the backup;
//   partition-began: a = groups of lanes. -1 is none.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const entries = data.entries.map(([kind, lane, time, text, parents, a, b]) =>
    ({ kind, lane, time, text, parents, a, b }));
  const byId = (id) => document.getElementById(id);
  const view = byId("view"), tall = byId("tall"), drawing = byId("drawing"), tip = byId("tip");

  const GROUPS = [
    ["requests", "Requests", ["requested", "refused", "acknowledged"]],
    ["messages", "Messages", ["sent", "delivered", "duplicated", "lost"]],
    ["links", "Links", ["link-up", "link-down"]],
    ["cuts", "Partitions, cuts", ["cut-began", "cut-ended", "partition-began", "partition-ended", "heal-began"]],
    ["syncs", "Disk syncs", ["sync-begun", "sync-done", "sync-failed"]],
    ["faults", "Disk faults", ["fault-injected", "fault-hit"]],
    ["lives", "Crashes, copies", ["crashed", "restarted", "went-away", "came-back", "backed-up", "copied", "restored"]],
    ["clocks", "Clocks", ["clock-jumped", "clock-drifts"]],
    ["notes", "Notes", ["note"]],
  ];
  const groupOf = new Map(GROUPS.flatMap(([id, , kinds]) => kinds.map((kind) => [kind, id])));
  const hidden = new Set();

  // What is derived once: lanes, their lives, bands, and what became of messages.
  let lanes = 0;
  const arrivals = new Map(), lost = new Map(), bands = [], cuts = [], lives = [];
  let partition = null;
  const openCuts = new Map(), alive = [];
  const seen = (lane) => { if (lane >= lanes) lanes = lane + 1; };
  const born = new Map();
  const turn = (lane, state, row) => {
    const life = alive[lane];
    if (life) { life.to = row; lives.push(life); }
    alive[lane] = { lane, state, from: row, to: entries.length - 1 };
  };
  entries.forEach((e, row) => {
    seen(e.lane);
    switch (e.kind) {
      case "sent": case "link-up": case "link-down": seen(e.a); break;
      case "delivered": case "duplicated":
        seen(e.a);
        if (e.b >= 0) arrivals.set(e.b, [...(arrivals.get(e.b) || []), row]);
        break;
      case "lost": if (e.b >= 0) lost.set(e.b, row); break;
      case "copied": seen(e.a); born.set(e.a, row); break;
      case "cut-began": seen(e.a); seen(e.b); openCuts.set(`${e.a} ${e.b}`, { from: e.a, to: e.b, start: row }); break;
      case "cut-ended": {
        const cut = openCuts.get(`${e.a} ${e.b}`);
        if (cut) { cuts.push({ ...cut, end: row }); openCuts.delete(`${e.a} ${e.b}`); }
        break;
      }
      case "partition-began": case "partition-ended":
        if (partition) bands.push({ ...partition, end: row });
        partition = null;
        if (e.kind === "partition-began") { e.a.flat().forEach(seen); partition = { groups: e.a, start: row }; }
        break;
    }
  });
  if (partition) bands.push({ ...partition, end: entries.length });
  for (const cut of openCuts.values()) cuts.push({ ...cut, end: entries.length });
  for (let lane = 0; lane < lanes; lane++) {
    alive[lane] = { lane, state: "up", from: born.get(lane) ?? -1, to: entries.length };
  }
  entries.forEach((e, row) => {
    const state = { crashed: "down", restarted: "up", restored: "up", "went-away": "away", "came-back": "up" }[e.kind];
    if (state && e.lane >= 0) turn(e.lane, state, row);
  });
  for (const life of alive) if (life) { life.to = entries.length; lives.push(life); }
  // Strips of cuts that overlap on one lane lie side by side.
  cuts.forEach((cut, at) => {
    const beside = cuts.slice(0, at).filter((other) => other.to === cut.to && other.end > cut.start).map((other) => other.slot);
    cut.slot = 0;
    while (beside.includes(cut.slot)) cut.slot += 1;
  });

  // What is shown: everything, or what came before one entry.
  let focus = data.failing >= 0 ? data.failing : null;
  let chosen = null, cursor = data.failing >= 0 ? data.failing : 0, hovered = null;
  const back = [];
  let rows = [];
  const past = (row) => {
    const within = new Uint8Array(entries.length);
    within[row] = 1;
    for (let at = row; at >= 0; at--) if (within[at]) for (const parent of entries[at].parents) within[parent] = 1;
    return within;
  };
  let within = null;
  // Partitions and cuts come before nothing, and are shown for what they explain.
  const frame = (e) => e.lane < 0 && groupOf.get(e.kind) === "cuts";
  const filter = () => {
    within = focus === null ? null : past(focus);
    rows = [];
    entries.forEach((e, row) => {
      if (hidden.has(groupOf.get(e.kind))) return;
      if (!within || within[row] || (row < focus && frame(e))) rows.push(row);
    });
  };
  const slot = (row) => { // The place of the first row shown that is not before `row`.
    let low = 0, high = rows.length;
    while (low < high) { const middle = (low + high) >> 1; if (rows[middle] < row) low = middle + 1; else high = middle; }
    return low;
  };
  const shown = (row) => rows[slot(row)] === row;

  // Geometry, in pixels.
  const H = 24, TOP = 30, TIME = 112, KIND = 132;
  let width = 0, height = 0, gap = 0, textX = 0;
  const measure = () => {
    height = view.clientHeight;
    const room = view.clientWidth - TIME;
    gap = Math.max(30, Math.min(104, (room * 0.55) / Math.max(1, lanes)));
    textX = TIME + gap * lanes + 18;
    width = Math.max(view.clientWidth, textX + KIND + 220);
    tall.style.height = `${TOP + rows.length * H + 12}px`;
    tall.style.width = `${width}px`;
    drawing.setAttribute("width", width);
    drawing.setAttribute("height", height);
  };
  const laneX = (lane) => TIME + gap * (lane + 0.5);
  const rowY = (row) => TOP + (slot(row) + (shown(row) ? 0.5 : 0)) * H - view.scrollTop;

  const SVG = "http://www.w3.org/2000/svg";
  let target = drawing;
  const put = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    target.append(element);
    return element;
  };
  const line = (x1, y1, x2, y2, cls) => put("line", { x1, y1, x2, y2, class: cls });
  const cross = (x, y, r, cls) => put("path", { d: `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`, class: cls });
  const arrow = (x1, y1, x2, y2, cls, head) => {
    line(x1, y1, x2, y2, cls);
    const length = Math.hypot(x2 - x1, y2 - y1) || 1, ux = (x2 - x1) / length, uy = (y2 - y1) / length;
    const bx = x2 - 8 * ux, by = y2 - 8 * uy;
    put("path", { d: `M${x2} ${y2}L${bx - 3.6 * uy} ${by + 3.6 * ux}L${bx + 3.6 * uy} ${by - 3.6 * ux}Z`, class: head });
  };
  const message = (x1, y1, x2, y2, kind, form) => {
    const hue = `m${kind % 6}`, head = `head${kind % 6}`;
    const length = Math.hypot(x2 - x1, y2 - y1) || 1, ux = (x2 - x1) / length, uy = (y2 - y1) / length;
    if (form === "lost") {
      const x = x1 + (x2 - x1) * 0.6, y = y1 + (y2 - y1) * 0.6;
      line(x1, y1, x, y, `message lost ${hue}`);
      cross(x, y, 4, "bad");
    } else if (form === "stub") {
      arrow(x1, y1, x1 + 16 * ux, y1 + 16 * uy, `message stub ${hue}`, `${head} dim`);
    } else {
      if (form === "twice") {
        line(x1, y1, x2 - 6 * ux, y2 - 6 * uy, `message twice ${hue}`);
        line(x1, y1, x2 - 6 * ux, y2 - 6 * uy, "message between");
        arrow(x2 - 8 * ux, y2 - 8 * uy, x2 - 3 * ux, y2 - 3 * uy, `message ${hue}`, head);
      } else {
        arrow(x1, y1, x2 - 3 * ux, y2 - 3 * uy, `message ${hue}`, head);
      }
    }
  };
  const circle = (x, y, r, cls) => put("circle", { cx: x, cy: y, r, class: cls });
  const square = (x, y, r, cls) => put("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, class: cls });
  const triangle = (x, y, cls) => put("path", { d: `M${x} ${y - 6}L${x + 6} ${y + 5}L${x - 6} ${y + 5}Z`, class: cls });
  const MARKS = {
    requested: (x, y, e) => circle(x, y, 5, e.b ? "solid" : "hollow"),
    refused: (x, y) => { circle(x, y, 5, "hollow"); line(x - 6, y + 6, x + 6, y - 6, "bad"); },
    acknowledged: (x, y) => put("path", { d: `M${x - 5} ${y}l4 4l7 -8`, class: "tick" }),
    sent: (x, y, e) => circle(x, y, 3, `head${e.b % 6}`),
    delivered: (x, y, e) => circle(x, y, 3, e.b < 0 ? "plain" : `head${entries[e.b].b % 6}`),
    duplicated: (x, y, e) => circle(x, y, 3, e.b < 0 ? "plain" : `head${entries[e.b].b % 6}`),
    "sync-begun": (x, y) => square(x, y, 3, "sync-hollow"),
    "sync-done": (x, y) => square(x, y, 3.5, "sync"),
    "sync-failed": (x, y) => square(x, y, 4.5, "bad-full"),
    "fault-injected": (x, y) => triangle(x, y, "warn"),
    "fault-hit": (x, y) => triangle(x, y, "warn-full"),
    crashed: (x, y) => cross(x, y, 6, "bad"),
    restarted: (x, y) => triangle(x, y, "up"),
    "went-away": (x, y) => line(x - 7, y, x + 7, y, "line"),
    "came-back": (x, y) => triangle(x, y, "rest"),
    "backed-up": (x, y) => square(x, y, 4.5, "copy"),
    copied: (x, y) => { circle(x, y, 6, "copy"); circle(x, y, 2.5, "copy"); },
    restored: (x, y) => triangle(x, y, "copy"),
    "clock-jumped": (x, y) => { circle(x, y, 6, "warn"); put("path", { d: `M${x} ${y - 3.5}v3.5h3`, class: "warn" }); },
    "clock-drifts": (x, y) => { circle(x, y, 6, "warn"); put("path", { d: `M${x - 3} ${y + 2}l6 -4`, class: "warn" }); },
    "link-up": (x, y) => circle(x, y, 3, "rest"),
    "link-down": (x, y) => circle(x, y, 3, "rest"),
    broken: (x, y) => { circle(x, y, 8, "bad-full"); put("path", { d: `M${x - 3} ${y - 3}l6 6m0 -6l-6 6`, style: "stroke: var(--ground); stroke-width: 2" }); },
    note: (x, y) => circle(x, y, 3.5, "rest"),
  };
  const TINTS = {
    broken: "bad-text", crashed: "bad-text", refused: "bad-text", lost: "bad-text", "sync-failed": "bad-text",
    "fault-injected": "warn-text", "fault-hit": "warn-text", "clock-jumped": "warn-text", "clock-drifts": "warn-text",
    acknowledged: "good-text", restarted: "good-text",
  };

  const drawBands = () => {
    const end = rows.length * H + TOP - view.scrollTop;
    for (const band of bands) {
      const y1 = Math.max(TOP, rowY(band.start)), y2 = Math.min(end, height, rowY(band.end));
      if (y2 <= y1) continue;
      band.groups.forEach((group, at) => group.forEach((lane) =>
        put("rect", { x: laneX(lane) - gap / 2, y: y1, width: gap, height: y2 - y1, class: `g${at % 4}` })));
    }
    for (const life of lives) {
      const y1 = life.from < 0 ? TOP : Math.max(TOP, rowY(life.from)), y2 = Math.min(end, height, rowY(life.to));
      if (y2 > y1) line(laneX(life.lane), y1, laneX(life.lane), y2, `lane ${life.state === "up" ? "" : life.state}`);
    }
    for (const cut of cuts) {
      const y1 = Math.max(TOP, rowY(cut.start)), y2 = Math.min(end, height, rowY(cut.end));
      if (y2 > y1) put("rect", { x: laneX(cut.to) - 9 - 6 * cut.slot, y: y1, width: 4, height: y2 - y1, class: "cut" });
    }
  };
  // Arrows run over rows that are not in sight: each that crosses the sight is drawn.
  const drawArrows = (first, last) => {
    for (let at = 0; at < rows.length && at <= last; at++) {
      const row = rows[at], e = entries[row];
      if (e.kind === "sent") {
        const x1 = laneX(e.lane), y1 = rowY(row), x2 = laneX(e.a);
        const ends = (arrivals.get(row) || []).filter(shown);
        if (lost.has(row) && !arrivals.has(row)) {
          if (at >= first) message(x1, y1, x2, y1 + H * 1.6, e.b, "lost");
        } else if (!ends.length) {
          if (at >= first) message(x1, y1, x2, y1 + H * 1.6, e.b, "stub");
        }
        for (const end of ends) {
          if (slot(end) >= first) message(x1, y1, x2, rowY(end), e.b, entries[end].kind === "duplicated" ? "twice" : "");
        }
      } else if ((e.kind === "sync-done" || e.kind === "sync-failed") && e.b >= 0 && at >= first && shown(e.b)) {
        put("rect", { x: laneX(e.lane) - 2, y: rowY(e.b), width: 4, height: rowY(row) - rowY(e.b), class: e.kind === "sync-done" ? "sync" : "bad-full" });
      } else if (e.kind === "restored" && e.b >= 0 && e.b < row && at >= first && shown(e.b)) {
        line(laneX(entries[e.b].lane), rowY(e.b), laneX(e.lane), rowY(row), "copy-line");
      }
    }
  };
  const drawRow = (row) => {
    const e = entries[row], y = rowY(row), right = TIME + gap * lanes;
    if (e.kind === "link-up" || e.kind === "link-down") {
      line(laneX(e.lane), y, laneX(e.a), y, e.kind === "link-up" ? "line" : "line dash");
      if (e.kind === "link-down") cross((laneX(e.lane) + laneX(e.a)) / 2, y, 3.5, "line");
      circle(laneX(e.a), y, 3, "rest");
    }
    if (e.kind === "cut-began" || e.kind === "cut-ended") {
      arrow(laneX(e.a), y, laneX(e.b) + (e.a < e.b ? -10 : 10), y, `world ${e.kind === "cut-began" ? "bad" : "good"}`, e.kind === "cut-began" ? "bad-full" : "solid");
    } else if (e.kind === "copied") {
      line(laneX(e.lane), y, laneX(e.a), y, "copy-line");
      MARKS.copied(laneX(e.a), y, e);
    } else if (e.lane < 0 && e.kind !== "lost") {
      line(TIME + 4, y, right, y, `world ${e.kind === "broken" ? "bad" : e.kind === "heal-began" ? "good" : ""}`);
    }
    const x = e.lane < 0 ? (TIME + right) / 2 : laneX(e.lane);
    if (MARKS[e.kind] && (e.lane >= 0 || e.kind === "broken")) MARKS[e.kind](x, y, e);
    const beside = within && !within[row] ? " dim" : "";
    put("text", { x: TIME - 12, y: y + 4, class: `time${beside}` }, e.time.slice(0, -3));
    put("text", { x: textX, y: y + 4, class: (TINTS[e.kind] || "kind") + beside }, `${e.lane < 0 ? "" : `r${e.lane} `}${e.kind.replace("-", " ")}`);
    const text = e.text.length > 200 ? `${e.text.slice(0, 200)}…` : e.text;
    put("text", { x: textX + KIND, y: y + 4, class: (e.kind === "broken" ? "bad-text" : "") + beside }, text);
  };
  const draw = () => {
    target = drawing;
    drawing.replaceChildren();
    const first = Math.max(0, Math.floor(view.scrollTop / H) - 1);
    const last = Math.min(rows.length - 1, Math.ceil((view.scrollTop + height) / H));
    for (const [row, cls] of [[cursor, "cursor"], [data.failing, "failed"], [hovered, "hover"]]) {
      if (row !== null && row >= 0 && shown(row)) put("rect", { x: 0, y: rowY(row) - H / 2, width, height: H, class: cls });
    }
    if (shown(cursor)) put("rect", { x: 0, y: rowY(cursor) - H / 2, width: 4, height: H, class: "here" });
    drawBands();
    drawArrows(first, last);
    for (let at = first; at <= last; at++) drawRow(rows[at]);
    put("rect", { x: 0, y: 0, width, height: TOP, class: "top" });
    put("text", { x: TIME - 12, y: 20, class: "time" }, "seconds");
    for (let lane = 0; lane < lanes; lane++) put("text", { x: laneX(lane), y: 20, class: "name" }, `r${lane}`);
    put("text", { x: textX, y: 20, class: "kind" }, `${rows.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} entries, one a row`);
    line(0, TOP - 0.5, width, TOP - 0.5, "rule");
  };
  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };

  const title = (row) => {
    const e = entries[row];
    return `${e.time} s · ${e.lane < 0 ? "the world" : `r${e.lane}`} · ${e.kind.replace("-", " ")}`;
  };
  const describe = () => {
    const box = byId("entry");
    box.replaceChildren();
    const e = entries[cursor];
    if (!e) { box.textContent = "No entries."; return; }
    const head = document.createElement("div");
    head.className = "head";
    const name = document.createElement("b");
    name.textContent = title(cursor);
    head.append(name);
    const text = document.createElement("div");
    text.textContent = e.text;
    const before = document.createElement("div");
    if (e.kind === "requested" && e.a) text.textContent += e.b ? " — acknowledged as durable" : " — never acknowledged";
    for (const parent of e.parents) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `after: ${title(parent)} ${entries[parent].text}`;
      button.title = button.textContent;
      button.onclick = () => { if (!shown(parent)) { show(null); } move(parent); view.focus(); };
      before.append(button);
    }
    box.append(head, text, before);
  };
  const move = (row) => {
    cursor = row;
    const at = slot(row), y = TOP + at * H;
    if (y - TOP < view.scrollTop) view.scrollTop = y - TOP;
    else if (y + H > view.scrollTop + height) view.scrollTop = y + H - height + 6;
    describe();
    redraw();
  };
  const buttons = () => {
    const press = (id, on) => byId(id).setAttribute("aria-pressed", on);
    press("everything", focus === null);
    press("failure", focus !== null && focus === data.failing);
    press("chosen", focus !== null && focus !== data.failing);
    byId("chosen").hidden = chosen === null;
    if (chosen !== null) byId("chosen").textContent = `Before ${title(chosen)}`;
  };
  // Shows everything, or what came before `row`; the cursor keeps its place on the screen.
  const show = (row, remember = true) => {
    if (remember && row !== focus) back.push(focus);
    const place = TOP + slot(cursor) * H - view.scrollTop;
    focus = row;
    if (row !== null) { cursor = row; if (row !== data.failing) chosen = row; }
    update(place);
  };
  const update = (place) => {
    filter();
    if (!shown(cursor) && rows.length) cursor = rows[Math.min(slot(cursor), rows.length - 1)];
    measure();
    view.scrollTop = TOP + slot(cursor) * H - Math.min(Math.max(place, TOP), Math.max(TOP, height - 2 * H));
    buttons();
    move(cursor);
  };

  // Head of the page.
  byId("title").textContent = data.title;
  if (data.failing >= 0) {
    const box = byId("broken"), name = document.createElement("b"), e = entries[data.failing];
    name.textContent = `${e.kind === "broken" ? "Does not hold" : e.kind.replace("-", " ")} `;
    box.append(name, `${e.text} (${title(data.failing)})`);
    box.hidden = false;
    byId("failure").hidden = false;
    byId("to-failure").hidden = false;
  }
  if (data.total > entries.length) {
    const box = byId("left-out");
    const [total, here, out] = [data.total, entries.length, data.total - entries.length].map((n) => n.toLocaleString("en"));
    const held = data.failing < 0 ? 0 : past(data.failing).reduce((sum, is) => sum + is, 0);
    const what = held < data.past
      ? `the last ${held.toLocaleString("en")} of the ${data.past.toLocaleString("en")} that came before the failure`
      : `${held ? "all that came before the failure, " : ""}crashes, copies, partitions and cuts, and the latest of the rest`;
    box.textContent = `This page holds ${here} of ${total} entries: ${what}. ${out} are left out, so the past of other entries may be incomplete.`;
    box.hidden = false;
  }
  for (const [id, label, kinds] of GROUPS) {
    const count = entries.reduce((sum, e) => sum + (kinds.includes(e.kind) ? 1 : 0), 0);
    if (!count) continue;
    const box = document.createElement("label"), input = document.createElement("input"), number = document.createElement("span");
    input.type = "checkbox";
    input.checked = true;
    number.textContent = count.toLocaleString("en");
    input.onchange = () => {
      const place = TOP + slot(cursor) * H - view.scrollTop;
      if (input.checked) hidden.delete(id); else hidden.add(id);
      update(place);
    };
    box.append(input, label, number);
    byId("kinds").append(box);
  }
  const LEGEND = [
    ["write, acknowledged", () => MARKS.requested(22, 10, { b: 1 })], ["request, not acknowledged", () => MARKS.requested(22, 10, { b: 0 })],
    ["acknowledgement", () => MARKS.acknowledged(22, 10)], ["refused", () => MARKS.refused(22, 10)],
    ["message, lost", () => message(2, 6, 60, 16, 0, "lost")], ["message that came twice", () => message(4, 4, 40, 16, 0, "twice")],
    ["message that arrives outside the view", () => message(14, 6, 44, 14, 0, "stub")], ["disk sync", () => { MARKS["sync-begun"](22, 4); put("rect", { x: 20, y: 5, width: 4, height: 10, class: "sync" }); MARKS["sync-done"](22, 15); }],
    ["sync that failed", () => MARKS["sync-failed"](22, 10)], ["disk fault, injected", () => MARKS["fault-injected"](22, 10)],
    ["disk fault, met", () => MARKS["fault-hit"](22, 10)], ["crash", () => MARKS.crashed(22, 10)],
    ["restart", () => MARKS.restarted(22, 10)], ["down", () => line(22, 0, 22, 20, "lane down")],
    ["away", () => line(22, 0, 22, 20, "lane away")], ["back", () => MARKS["came-back"](22, 10)],
    ["copy", () => MARKS.copied(22, 10)], ["restored from a backup", () => MARKS.restored(22, 10)],
    ["clock jumps, drifts", () => { MARKS["clock-jumped"](12, 10); MARKS["clock-drifts"](32, 10); }], ["cut: nothing arrives from one lane", () => put("rect", { x: 20, y: 0, width: 4, height: 20, class: "cut" })],
    ["groups of a partition", () => { put("rect", { x: 0, y: 0, width: 22, height: 20, class: "g0" }); put("rect", { x: 22, y: 0, width: 22, height: 20, class: "g1" }); }], ["does not hold", () => MARKS.broken(22, 10)],
  ];
  const legend = byId("legend").lastElementChild;
  const item = (label, drawIt) => {
    const box = document.createElement("div");
    target = document.createElementNS(SVG, "svg");
    drawIt();
    const text = document.createElement("span");
    text.textContent = label;
    box.append(target, text);
    legend.append(box);
  };
  LEGEND.forEach(([label, drawIt]) => item(label, drawIt));
  data.messages.forEach((kind, at) => item(`message: ${kind}`, () => message(2, 10, 42, 10, at, "")));

  // Pointer and keys.
  const at = (event) => {
    const y = event.clientY - drawing.getBoundingClientRect().top;
    if (y < TOP) return null;
    return rows[Math.floor((y - TOP + view.scrollTop) / H)] ?? null;
  };
  drawing.addEventListener("mousemove", (event) => {
    const row = at(event);
    if (row !== hovered) { hovered = row; redraw(); }
    tip.hidden = row === null;
    if (row === null) return;
    const name = document.createElement("b");
    name.textContent = title(row);
    tip.replaceChildren(name, entries[row].text.slice(0, 600));
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    const below = event.clientY + 18;
    tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below}px`;
  });
  const leave = () => { tip.hidden = true; if (hovered !== null) { hovered = null; redraw(); } };
  drawing.addEventListener("mouseleave", leave);
  drawing.addEventListener("click", (event) => {
    const row = at(event);
    if (row !== null) { cursor = row; show(row); leave(); }
  });
  view.addEventListener("scroll", redraw);
  addEventListener("resize", () => { measure(); redraw(); });
  byId("legend").addEventListener("keydown", (event) => { if (event.key === "Escape") byId("legend").open = false; });
  byId("everything").onclick = () => show(null);
  byId("failure").onclick = () => show(data.failing);
  byId("chosen").onclick = () => { if (chosen !== null) show(chosen); };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inView = document.activeElement === view || document.activeElement === document.body;
    const page = Math.max(1, Math.floor((height - TOP) / H) - 1);
    const steps = { ArrowUp: -1, k: -1, ArrowDown: 1, j: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.key in steps && inView && rows.length) {
      move(rows[Math.max(0, Math.min(rows.length - 1, slot(cursor) + steps[event.key]))]);
    } else if (event.key === "Enter" && inView && rows.length) show(cursor);
    else if (event.key === "Escape" && inView) { if (back.length) show(back.pop(), false); }
    else if (event.key === "a") show(null);
    else if (event.key === "f" && data.failing >= 0) show(data.failing);
    else return;
    event.preventDefault();
  });

  filter();
  measure();
  update(height);
})();
