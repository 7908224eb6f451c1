/**
 * map_geometry.js -- where the map's cells stand, zoomed or not, and which one a point is in.
 */

export class Geometry {
  /** width: of the canvas; rows, cols: of the map; by: how much larger than usual type is. */
  constructor(width, rows, cols, by = 1) {
    const small = width < 520;
    this.by = by;
    this.left = (small ? 46 : 78) * by;
    this.bottom = (small ? 50 : 66) * by;
    this.edge = (small ? 20 : 34) * by; // of the marginals
    this.top = 6;
    this.width = width;
    this.rows = rows;
    this.cols = cols;
    this.plotW = Math.max(60, width - this.left - this.edge - 10);
    this.plotH =
      rows === cols ? this.plotW : Math.min(this.plotW, Math.max(40, (this.plotW * rows) / cols));
    this.height = this.top + this.plotH + 8 + this.edge + this.bottom;
    this.k = 1;
    this.x = 0;
    this.y = 0;
  }

  /** Take over d3's transform. */
  zoom(t) {
    this.k = t.k;
    this.x = t.x;
    this.y = t.y;
  }

  get cellW() {
    return (this.k * this.plotW) / this.cols;
  }

  get cellH() {
    return (this.k * this.plotH) / this.rows;
  }

  /** Left edge of column j, top edge of row r, on the canvas. */
  atX(j) {
    return this.x + this.k * (this.left + (j * this.plotW) / this.cols);
  }

  atY(r) {
    return this.y + this.k * (this.top + (r * this.plotH) / this.rows);
  }

  /** The column and row of a point; row or column -1 beside the plot on its label's side. */
  cell(px, py) {
    const j = Math.floor((px - this.atX(0)) / this.cellW),
      r = Math.floor((py - this.atY(0)) / this.cellH);
    const inX = px >= this.left && px < this.left + this.plotW && j >= 0 && j < this.cols;
    const inY = py >= this.top && py < this.top + this.plotH && r >= 0 && r < this.rows;
    return {j: inX ? j : -1, r: inY ? r : -1};
  }

  /** First and last column and row that are in sight. */
  visible() {
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));
    return {
      j0: clamp(Math.floor((this.left - this.atX(0)) / this.cellW), this.cols),
      j1: clamp(Math.ceil((this.left + this.plotW - this.atX(0)) / this.cellW) - 1, this.cols),
      r0: clamp(Math.floor((this.top - this.atY(0)) / this.cellH), this.rows),
      r1: clamp(Math.ceil((this.top + this.plotH - this.atY(0)) / this.cellH) - 1, this.rows),
    };
  }
}
