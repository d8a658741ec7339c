// Accessibility checks of a page as it is rendered; returns a list of what is wrong. In the manner of axe: names of controls, labels,
// contrast (WCAG 2.1 AA: 4.5:1, 3:1 for large text), structure, unique ids.
() => {
  const problems = [];
  const say = (element, what) => problems.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const visible = (e) => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && e.getClientRects().length > 0;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);

  // --- names ---
  const nameOf = (e) =>
    (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join(' ') ||
      [...(e.labels ?? [])].map((l) => l.textContent).join(' ') || e.textContent || e.getAttribute('alt') || e.getAttribute('title') || '').trim();
  for (const e of all('button, a[href], input:not([type="hidden"]), select, textarea, summary, [role="img"], [role="progressbar"], [role="region"], dialog')) if (!nameOf(e)) say(e, 'no name');
  for (const e of all('img')) if (!e.hasAttribute('alt')) say(e, 'no alternative text');
  for (const e of all('fieldset')) if (!e.querySelector('legend')) say(e, 'no legend');

  // --- structure ---
  if (!document.documentElement.lang) problems.push('no language');
  if (all('h1').length !== 1) problems.push(`${all('h1').length} headings of the first level`);
  if (document.querySelectorAll('main').length !== 1) problems.push('not one main');
  let level = 1;
  for (const e of all('h1, h2, h3, h4')) {
    const now = Number(e.tagName[1]);
    if (now > level + 1) say(e, 'a level of headings is left out');
    level = now;
  }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) problems.push(`id "${id}" twice`);
  for (const e of all('th')) if (!e.scope) say(e, 'no scope');
  for (const e of document.querySelectorAll('[tabindex]')) if (e.tabIndex > 0) say(e, 'tabindex above 0');
  for (const e of all('[onclick]')) say(e, 'inline handler');
  for (const e of all('[role="progressbar"]')) if (!e.hasAttribute('aria-valuenow')) say(e, 'no value');
  for (const e of all('.scroll')) if (e.scrollWidth > e.clientWidth && e.tabIndex < 0) say(e, 'scrolls, but not by keyboard');

  // --- contrast ---
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const background = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255]);
  };
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const e of all('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim()) || e.closest('.view, .strip, svg, :disabled, script, noscript')) continue;
    const style = getComputedStyle(e);
    if (parseFloat(style.fontSize) < 1) continue;
    const under = background(e);
    const [a, b] = [luminance(over(rgba(style.color), under)), luminance(under)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) say(e, `contrast ${ratio.toFixed(2)}`);
  }

  // --- size of targets (WCAG 2.2 AA: 24 pixels) ---
  for (const e of all('button, select, summary')) {
    const box = e.getBoundingClientRect();
    if (box.width < 24 || box.height < 24) say(e, `target of ${Math.round(box.width)} × ${Math.round(box.height)} pixels`);
  }
  return problems;
}
