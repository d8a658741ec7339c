// What one would see at once in a picture of the page, without comparing pixels; returns a list of what is wrong: controls that lie on each
// other, text that is cut off, parts that stick out of the page or of what holds them.
() => {
  const problems = [];
  const say = (element, what) => problems.push(`${what}: ${element.outerHTML.slice(0, 110)}`);
  const visible = (e) => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && e.getClientRects().length > 0 && !e.closest('.visually-hidden, .skip, noscript');
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);
  const scrolled = (e) => e.closest('.scroll, .strip, .files');
  const clips = (e) => ['hidden', 'clip'].includes(getComputedStyle(e).overflowX);

  // --- controls on each other ---
  const controls = all('button, a[href], input, select, summary').filter((e) => !scrolled(e));
  const boxes = controls.map((e) => e.getBoundingClientRect());
  for (let i = 0; i < controls.length; i++)
    for (let j = i + 1; j < controls.length; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left), height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 1 && height > 1 && !controls[i].contains(controls[j]) && !controls[j].contains(controls[i])) say(controls[j], `lies on ${controls[i].outerHTML.slice(0, 60)}`);
    }

  // --- text that is cut off ---
  for (const e of all('main *')) {
    if (![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim()) || e.closest('svg, .view')) continue;
    const style = getComputedStyle(e);
    if (clips(e) && style.textOverflow !== 'ellipsis' && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 2)) say(e, 'text is cut off');
  }

  // --- what sticks out ---
  for (const e of all('main *')) {
    const box = e.getBoundingClientRect();
    if (scrolled(e) || e.closest('svg') || box.width === 0) continue;
    if (box.left < -1 || box.right > innerWidth + 1) say(e, `sticks out of the page (${Math.round(box.left)} to ${Math.round(box.right)} of ${innerWidth})`);
    const card = e.parentElement.closest('.card, .viewer');
    if (card && !e.closest('table') && box.right > card.getBoundingClientRect().right + 1 && !clips(e.parentElement)) say(e, 'sticks out of its card');
  }
  for (const e of all('.scroll')) if (e.clientHeight < 20) say(e, 'has no height');
  for (const e of all('svg.chart, svg.trend, canvas')) if (e.getBoundingClientRect().width < 40 || e.getBoundingClientRect().height < 40) say(e, 'is too small to be seen');
  return problems;
}
