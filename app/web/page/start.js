// textual.js opens its terminal when the window has loaded, by these two attributes.
document.addEventListener("DOMContentLoaded", () => {
  const terminal = document.getElementById("terminal");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  terminal.dataset.sessionWebsocketUrl = `${scheme}//${location.host}/ws`;
  // A cell is 0.6 font sizes wide and about 1.3 high, and the dashboard needs 80 x 24 of them.
  const fitting = Math.min(innerWidth / (80 * 0.61), innerHeight / (24 * 1.35));
  const wanted = Number(new URLSearchParams(location.search).get("fontsize")) || 15;
  terminal.dataset.fontSize = Math.max(6, Math.floor(Math.min(wanted, fitting)));
});
addEventListener("load", () => setTimeout(() => document.querySelector(".xterm-helper-textarea").focus()));
