// Everything is made once and drawn at each change.

function update() {
  select();
  drawRows();
  drawPages();
  drawFilters();
  drawOverview();
  drawCount();
}

if (DATA.size && COLUMNS.length) {
  drawHead();
  makeFilters();
  makePages();
  makeExample();
  makeMatrix();
  makeClasses();
  makeScatter();
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  update();
}
performance.mark("interactive");
