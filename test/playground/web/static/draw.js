// Elements of the page, made without text that is read as HTML.

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== "") node.setAttribute(name, value);
  node.append(...children.map((c) => (c instanceof Node ? c : document.createTextNode(c))));
  return node;
}

export const element = (name, attributes = {}, ...children) => make(document.createElement(name), attributes, children);

export const vector = (name, attributes = {}, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

// text changes a node only when its text is another.
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}
