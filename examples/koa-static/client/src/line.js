/** One departure, as the list shows it. */
export function line({ at, to }) {
  const item = document.createElement("li");
  item.textContent = `${at} to ${to}`;
  return item;
}
