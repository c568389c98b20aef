"use strict";
// The timeline: one row for each test, and below it its helpers and leaks. Only the rows in sight are in the document.
// What the report says is put in as text (textContent), never as markup.
(() => {
  const ROW = 26;
  const STATES = {
    passed: ["✓", "test passed"],
    failed: ["✗", "test failed"],
    unknown: ["?", "test's outcome unknown"],
    stopped: ["■", "stopped by its test"],
    dropped: ["◆", "stopped by drop"],
    late: ["▲", "late: stopped by a hook or the guardian"],
    cut: ["◇", "cut short with the run"],
    leaked: ["●", "leaked"],
    killed: ["✖", "leaked, and had to be killed"],
    spared: ["○", "left running, as the policy allows"],
  };
  const $ = (id) => document.getElementById(id);
  const report = JSON.parse($("data").textContent);
  const rowsBox = $("rows"), sizer = $("sizer"), detail = $("detail"), filter = $("filter"), overview = $("overview");

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const duration = (ms) => {
    if (ms < 1000) return `${ms} ms`;
    return ms < 60000 ? `${(ms / 1000).toFixed(2)} s` : `${Math.floor(ms / 60000)} min ${((ms % 60000) / 1000).toFixed(0)} s`;
  };

  // The rows, in the order of the tests' beginnings.
  const runEnd = report.started_unix_ms + report.took_ms + report.checking_ms;
  const key = (test) => test ? JSON.stringify([test.binary, test.name, test.attempt || 1]) : "";
  const testName = (test) => test.name + (test.attempt > 1 ? ` (attempt ${test.attempt})` : "");
  const groups = new Map();
  const group = (test) => {
    const id = key(test);
    if (!groups.has(id)) groups.set(id, { test: null, of: test, children: [] });
    return groups.get(id);
  };
  const bar = (what, state, name, start, end, text) =>
    ({ what, state, name, start, end: Math.max(end, start), text: text.toLowerCase(), child: false });

  for (const test of report.tests) {
    const end = test.took_ms === undefined ? undefined : test.started_unix_ms + test.took_ms;
    group(test).test = { ...bar({ test }, test.outcome, testName(test), test.started_unix_ms, end ?? runEnd,
      `${test.name} ${test.binary} ${test.outcome}`), timed: test.started_unix_ms !== undefined };
  }
  const leakedFixtures = new Set();
  const processOf = (test, pid) => `${key(test)} ${pid}`;
  for (const [index, leak] of report.leaks.entries()) {
    if (leak.fixture) leakedFixtures.add(processOf(leak.test, leak.pid));
    const deed = leak.deed || {};
    const state = deed.killed ? "killed" : deed.spared && leak.allowed ? "spared" : "leaked";
    const start = leak.started_unix_ms ?? (leak.age_ms === undefined ? undefined : runEnd - leak.age_ms);
    // Where the program lies is among the details.
    const name = leak.command.replace(/^\/\S*\/(?=[^/\s])/, "");
    const row = bar({ leak, index }, state, name, start, runEnd, `${leak.command} ${leak.pid} ${state} leak ${leak.kind}`);
    row.timed = start !== undefined;
    group(leak.test).children.push(row);
  }
  for (const helper of report.helpers) {
    if (leakedFixtures.has(processOf(helper.test, helper.pid))) continue;
    const state = { test: "stopped", drop: "dropped", check: "cut" }[helper.ended_by] || "late";
    const row = bar({ helper }, state, helper.fixture.label, helper.started_unix_ms, helper.ended_unix_ms ?? runEnd,
      `${helper.fixture.label} ${helper.command} ${helper.pid} ${state} helper`);
    row.timed = true;
    group(helper.test).children.push(row);
  }
  for (const one of groups.values()) {
    if (one.test) continue;
    const name = one.of ? testName(one.of) : "test unknown";
    one.test = bar({ test: one.of, untold: true }, "unknown", name, undefined, undefined, one.of ? `${one.of.name} ${one.of.binary}` : "");
    one.test.timed = false;
  }
  const first = (one) => one.test.timed ? one.test.start : Math.min(...one.children.map((c) => c.start ?? Infinity), Infinity);
  const ordered = [...groups.values()].map((one) => [one, one.of || one.test.what.test ? first(one) : Infinity]);
  ordered.sort((a, b) => (a[1] === b[1] ? 0 : a[1] - b[1]));
  const all = [];
  for (const [one] of ordered) {
    one.children.sort((a, b) => (a.start ?? Infinity) - (b.start ?? Infinity) || 0);
    all.push(one.test);
    one.test.children = one.children;
    for (const child of one.children) {
      child.child = true;
      child.parent = one.test;
      all.push(child);
    }
  }
  const timed = all.filter((row) => row.timed);
  // What a leak was before the suite does not count: it would push the tests to the edge.
  const framing = timed.some((row) => !row.what.leak) ? timed.filter((row) => !row.what.leak) : timed;
  const whole = [framing.reduce((a, row) => Math.min(a, row.start), Infinity), timed.reduce((b, row) => Math.max(b, row.end), -Infinity)];
  if (!timed.length) whole.splice(0, 2, report.started_unix_ms, runEnd);
  if (whole[1] <= whole[0]) whole[1] = whole[0] + 1;

  let shown = all;
  let chosen = null;
  let [from, to] = whole;
  const hidden = new Set();
  const percent = (at) => ((at - from) / (to - from)) * 100;

  // One row.
  const render = (row, index) => {
    const element = make("div", row.child ? "row child" : "row");
    element.id = `row-${index}`;
    element.dataset.index = index;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", String(row === chosen));
    element.setAttribute("aria-setsize", shown.length);
    element.setAttribute("aria-posinset", index + 1);
    element.style.top = `${index * ROW}px`;
    const [glyph, words] = STATES[row.state];
    const name = make("span", "name");
    name.title = row.name;
    const mark = make("span", `glyph ${row.state}`, row.what.untold ? "" : glyph);
    name.append(mark, make("span", "", row.name));
    const track = make("span", "track");
    if (row.timed) {
      const left = percent(row.start), right = percent(row.end);
      const shape = make("span", `bar ${row.state}`);
      shape.dataset.state = row.state;
      shape.style.left = `${Math.max(left, -1)}%`;
      shape.style.width = `${Math.min(right, 101) - Math.max(left, -1)}%`;
      if (right >= 0 && left <= 100) track.append(shape);
      const tag = make("span", "tag", `${words} · ${duration(row.end - row.start)}`);
      const behind = right < 72;
      tag.style.left = `${behind ? Math.max(right, 0) : Math.min(Math.max(left, 0), 100)}%`;
      if (!behind) {
        tag.classList.add(left > 28 ? "before" : "inside");
      }
      track.append(tag);
    } else if (!row.what.untold) {
      track.append(make("span", "tag", `${words}; when it ran is not known`));
    }
    const length = row.timed ? `, ${duration(row.end - row.start)}` : "";
    element.setAttribute("aria-label", `${row.child ? "helper or leak " : "test "}${row.name}: ${words}${length}`);
    element.append(name, track);
    return element;
  };

  const draw = () => {
    const top = Math.max(0, Math.floor(rowsBox.scrollTop / ROW) - 8);
    const bottom = Math.min(shown.length, Math.ceil((rowsBox.scrollTop + rowsBox.clientHeight) / ROW) + 8);
    sizer.style.height = `${shown.length * ROW}px`;
    sizer.replaceChildren(...shown.slice(top, bottom).map((row, i) => render(row, top + i)));
    const at = chosen ? shown.indexOf(chosen) : -1;
    if (at >= top && at < bottom) rowsBox.setAttribute("aria-activedescendant", `row-${at}`);
    else rowsBox.removeAttribute("aria-activedescendant");
    drawAxis();
  };

  const drawAxis = () => {
    const span = to - from;
    const step = [1, 2, 5].flatMap((n) => [...Array(9).keys()].map((e) => n * 10 ** e)).sort((a, b) => a - b).find((s) => span / s <= 8) || span;
    const marks = [];
    for (let at = Math.ceil((from - whole[0]) / step) * step; at <= to - whole[0]; at += step) {
      const mark = make("span", "", at === 0 ? "0" : duration(at));
      mark.style.left = `${percent(whole[0] + at)}%`;
      marks.push(mark);
    }
    $("axis").replaceChildren(...marks);
  };

  // The whole run at a glance: whatever overlaps is in lanes of its own.
  const lanes = [];
  for (const row of [...timed].sort((a, b) => a.start - b.start)) {
    let lane = lanes.findIndex((end) => end <= row.start);
    if (lane < 0) lane = lanes.push(0) - 1;
    lanes[lane] = row.end;
    row.lane = lane;
  }
  const drawOverview = () => {
    const scale = window.devicePixelRatio || 1, width = overview.clientWidth, height = 72;
    overview.width = width * scale;
    overview.height = height * scale;
    const canvas = overview.getContext("2d");
    canvas.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const x = (at) => ((at - whole[0]) / (whole[1] - whole[0])) * width;
    const thick = Math.min(12, (height - 4) / Math.max(lanes.length, 1));
    const visible = new Set(shown);
    for (const row of timed) {
      canvas.globalAlpha = visible.has(row) ? 1 : 0.15;
      canvas.fillStyle = style.getPropertyValue(`--${row.state}`);
      canvas.fillRect(x(row.start), 2 + row.lane * thick, Math.max(1.5, x(row.end) - x(row.start) - 0.5), Math.max(1, thick - 1));
    }
    canvas.globalAlpha = 0.12;
    canvas.fillStyle = style.getPropertyValue("--text");
    canvas.fillRect(0, 0, x(from), height);
    canvas.fillRect(x(to), 0, width - x(to), height);
    canvas.globalAlpha = 1;
  };

  // What is known about the chosen bar.
  const pair = (list, name, value) => {
    if (value === undefined || value === null || value === "") return;
    list.append(make("dt", "", name), make("dd", "", value));
  };
  const transcript = (lines) => {
    if (!lines || !lines.length) return [make("p", "", "No transcript.")];
    return [make("h3", "", "Transcript"), make("pre", "transcript", lines.join("\n"))];
  };
  const since = (at) => at === undefined ? undefined : `${duration(at - whole[0])} after the first`;
  const show = (row) => {
    const { test, helper, leak, index } = row.what;
    const title = make("h3", "", row.name);
    const list = make("dl");
    const parts = [title, list];
    pair(list, "ended", row.what.untold ? undefined : STATES[row.state][1]);
    if (test) {
      pair(list, "binary", test.binary);
      pair(list, "began", since(test.started_unix_ms));
      pair(list, "took", test.took_ms === undefined ? undefined : duration(test.took_ms));
      pair(list, "helpers", String(row.children.filter((c) => c.what.helper).length));
      pair(list, "leaks", String(row.children.filter((c) => c.what.leak).length));
    }
    if (helper) {
      pair(list, "test", helper.test && `${testName(helper.test)} in ${helper.test.binary}`);
      pair(list, "command", helper.command);
      pair(list, "pid", String(helper.pid));
      pair(list, "spawned at", `${helper.fixture.place.file}:${helper.fixture.place.line}`);
      pair(list, "began", since(helper.started_unix_ms));
      pair(list, "lived", helper.ended_unix_ms === undefined ? "nobody saw its end" : duration(helper.ended_unix_ms - helper.started_unix_ms));
      pair(list, "ended by", helper.ended_by);
      pair(list, "ending", helper.ending);
      parts.push(...transcript(helper.transcript));
    }
    const article = leak && document.querySelector(`.finding[data-leak="${index}"]`);
    if (article) {
      // The finding says it all, in the same words.
      list.replaceWith(article.querySelector("dl").cloneNode(true));
      parts[1] = article.querySelector("dl").cloneNode(true);
      parts.push(...transcript(leak.transcript));
      const link = make("a", "", "Show it among the findings");
      link.href = "#findings";
      link.addEventListener("click", (event) => {
        event.preventDefault();
        article.querySelector("details").open = true;
        article.scrollIntoView();
        article.querySelector("summary").focus();
      });
      parts.push(make("p"));
      parts[parts.length - 1].append(link);
    }
    detail.replaceChildren(...parts);
    detail.scrollTop = 0;
  };

  const choose = (row, scroll) => {
    chosen = row;
    const at = shown.indexOf(row);
    if (scroll && at >= 0) {
      const top = at * ROW, bottom = top + ROW;
      if (top < rowsBox.scrollTop) rowsBox.scrollTop = top;
      else if (bottom > rowsBox.scrollTop + rowsBox.clientHeight) rowsBox.scrollTop = bottom - rowsBox.clientHeight;
    }
    show(row);
    draw();
  };

  const zoom = (factor) => {
    const middle = chosen && chosen.timed ? Math.min(Math.max((chosen.start + chosen.end) / 2, from), to) : (from + to) / 2;
    const span = Math.min(Math.max((to - from) * factor, 1), whole[1] - whole[0]);
    move(middle - (middle - from) * (span / (to - from)), span);
  };
  const move = (start, span) => {
    from = Math.min(Math.max(start, whole[0]), whole[1] - span);
    to = from + span;
    draw();
    drawOverview();
  };

  // Filter: every word must be found; a test keeps its helpers, and a helper its test.
  const articles = [...document.querySelectorAll(".finding")].map((element) => [element, element.textContent.toLowerCase()]);
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => words.every((word) => text.includes(word));
    const visible = new Set();
    for (const row of all) {
      if (hidden.has(row.state) && !row.what.untold) continue;
      if (!fits(row.child ? `${row.text} ${row.parent.text}` : row.text)) continue;
      visible.add(row);
      if (row.parent) visible.add(row.parent);
    }
    for (const row of [...visible]) if (row.what.untold && !row.children.some((c) => visible.has(c))) visible.delete(row);
    shown = all.filter((row) => visible.has(row));
    for (const [element, text] of articles) element.hidden = !fits(text);
    const found = articles.filter(([element]) => !element.hidden).length;
    const bars = (rows) => rows.filter((row) => !row.what.untold).length;
    $("shown").textContent = `${bars(shown)} of ${bars(all)} bars, ${found} of ${articles.length} findings`;
    rowsBox.scrollTop = 0;
    draw();
    drawOverview();
  };

  // The legend says what the colors mean, and hides and shows.
  const counts = {};
  for (const row of all) if (!row.what.untold) counts[row.state] = (counts[row.state] || 0) + 1;
  for (const [state, [glyph, words]] of Object.entries(STATES)) {
    if (!counts[state]) continue;
    const button = make("button");
    button.type = "button";
    button.dataset.state = state;
    button.setAttribute("aria-pressed", "true");
    button.append(make("span", `swatch ${state}`), make("span", "", `${glyph} ${words}: ${counts[state]}`));
    button.addEventListener("click", () => {
      if (!hidden.delete(state)) hidden.add(state);
      button.setAttribute("aria-pressed", String(!hidden.has(state)));
      narrow();
    });
    $("legend").append(button);
  }

  sizer.addEventListener("click", (event) => {
    const element = event.target.closest(".row");
    if (element) choose(shown[Number(element.dataset.index)], false);
  });
  let pending = false;
  rowsBox.addEventListener("scroll", () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      draw();
    });
  });
  rowsBox.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
    const at = chosen ? shown.indexOf(chosen) : -1;
    const page = Math.max(1, Math.floor(rowsBox.clientHeight / ROW) - 1);
    const target = { ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 }[event.key];
    const span = to - from;
    if (target !== undefined) choose(shown[Math.min(Math.max(target, 0), shown.length - 1)], true);
    else if (event.key === "ArrowLeft") move(from - span / 5, span);
    else if (event.key === "ArrowRight") move(from + span / 5, span);
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "0") move(whole[0], whole[1] - whole[0]);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === filter) return;
    event.preventDefault();
    filter.focus();
  });
  filter.addEventListener("input", narrow);
  $("in").addEventListener("click", () => zoom(0.5));
  $("out").addEventListener("click", () => zoom(2));
  $("all").addEventListener("click", () => move(whole[0], whole[1] - whole[0]));
  overview.addEventListener("click", (event) => {
    const at = whole[0] + (event.offsetX / overview.clientWidth) * (whole[1] - whole[0]);
    const lane = Math.floor((event.offsetY - 2) / Math.min(12, 68 / Math.max(lanes.length, 1)));
    const far = (row) => (row.start <= at && at <= row.end ? 0 : Math.min(Math.abs(row.start - at), Math.abs(row.end - at))) + Math.abs(row.lane - lane);
    const visible = shown.filter((row) => row.timed);
    if (visible.length) choose(visible.reduce((best, row) => (far(row) < far(best) ? row : best)), true);
  });
  window.addEventListener("resize", () => {
    draw();
    drawOverview();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawOverview);

  if (all.length) $("timeline").hidden = false;
  $("tools").hidden = !all.length && !articles.length;
  const worth = ["killed", "leaked", "late", "failed"].map((state) => all.find((row) => row.state === state)).find(Boolean);
  rowsBox.style.height = `min(58vh, 40rem, ${Math.max(shown.length, 10) * ROW}px)`;
  narrow();
  if (worth) choose(worth, true);
})();
