"use strict";
(() => {
  const token = document.getElementById("token");
  const copy = document.getElementById("copy");
  const said = document.getElementById("said");
  const left = document.getElementById("left");
  if (!token) return;
  const ends = Date.now() + 1000 * Number(left.dataset.seconds);
  copy.hidden = false;
  copy.addEventListener("click", () => {
    navigator.clipboard.writeText(token.value).then(
      () => { said.textContent = "Copied. Paste it as the password."; },
      () => { said.textContent = "The browser does not allow it. Open “Show the token” and copy it there."; },
    );
  });
  const tick = () => {
    const seconds = Math.max(0, Math.round((ends - Date.now()) / 1000));
    if (seconds === 0) {
      token.value = "";
      copy.disabled = true;
      left.textContent = "The token has ended. Sign in again.";
      return;
    }
    const minutes = Math.floor(seconds / 60);
    left.textContent = minutes > 0 ? `${minutes} min ${seconds % 60} s left` : `${seconds} s left`;
    setTimeout(tick, 1000);
  };
  tick();
})();
