// The page: asks once a second how the system is doing, and shows it.
async function look() {
  const answer = await fetch("-/live");
  document.getElementById("live").textContent = JSON.stringify(await answer.json(), null, 2);
}

look();
setInterval(look, 1000);
