/** Elements in one line. */

type Child = Node | string | null | undefined | false;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | boolean | number | null | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value === true ? '' : String(value));
    }
  }
  for (const child of children) {
    if (child) {
      made.append(child);
    }
  }
  return made;
}

export function button(
  text: string,
  label: string,
  action: () => void,
  attributes: Record<string, string | boolean> = {}
): HTMLButtonElement {
  const made = element(
    'button',
    { type: 'button', class: 'rp-Button', title: label, 'aria-label': label, ...attributes },
    text
  );
  made.addEventListener('click', event => {
    event.stopPropagation();
    action();
  });
  return made;
}

export function dot(tone: string): HTMLElement {
  return element('span', { class: 'rp-Dot', 'data-tone': tone, 'aria-hidden': 'true' });
}

/** A bar from 0 to 1 with its name and what it says. */
export function bar(name: string, value: number, text: string): HTMLElement {
  const part = Math.max(0, Math.min(1, value));
  const tone = part >= 0.9 ? 'bad' : part >= 0.7 ? 'trouble' : 'good';
  const fill = element('span', { class: 'rp-Bar-fill', 'data-tone': tone });
  fill.style.width = `${(part * 100).toFixed(1)}%`;
  return element(
    'div',
    {
      class: 'rp-Bar',
      role: 'meter',
      'aria-label': name,
      'aria-valuemin': 0,
      'aria-valuemax': 100,
      'aria-valuenow': Math.round(part * 100),
      'aria-valuetext': text,
      title: `${name}: ${text}`
    },
    element('span', { class: 'rp-Bar-name' }, name),
    element('span', { class: 'rp-Bar-track' }, fill),
    element('span', { class: 'rp-Bar-text' }, text)
  );
}
