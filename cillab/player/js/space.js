// Space on a flat canvas: points turned by two angles, a little perspective, and three rings to see the turning by.
// Used by the toy and by the view of a run's frame. No WebGL.

import { clamp } from "./dom.js";

export class Turn {
  constructor(yaw = 0.75, pitch = 0.42) {
    Object.assign(this, { yaw, pitch });
  }

  by(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = clamp(this.pitch + pitch, -1.5, 1.5);
  }

  // Where a point is on the canvas, and how far behind the middle; `size` fills it.
  place([x, y, z], width, height, size) {
    const unit = (Math.min(width, height) / 2 / size) * 0.94, { yaw, pitch } = this;
    const across = x * Math.cos(yaw) + y * Math.sin(yaw), away = -x * Math.sin(yaw) + y * Math.cos(yaw);
    const up = z * Math.cos(pitch) + away * Math.sin(pitch), depth = away * Math.cos(pitch) - z * Math.sin(pitch);
    const near = 1 / (1 + depth / (size * 4.2));
    return [width / 2 + across * unit * near, height / 2 - up * unit * near, depth / size];
  }

  // Great circles around the origin.
  rings(pen, ink, radius, width, height, size) {
    pen.strokeStyle = ink; pen.globalAlpha = 0.13; pen.lineWidth = 1;
    for (let axis = 0; axis < 3; axis++) {
      pen.beginPath();
      for (let k = 0; k <= 72; k++) {
        const ring = [0, 0, 0], angle = (k / 72) * 2 * Math.PI;
        ring[(axis + 1) % 3] = Math.cos(angle) * radius;
        ring[(axis + 2) % 3] = Math.sin(angle) * radius;
        const [across, down] = this.place(ring, width, height, size);
        if (k) pen.lineTo(across, down); else pen.moveTo(across, down);
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  // Dragging turns; `changed` draws.
  follow(canvas, changed, allowed = () => true) {
    let from = null;
    canvas.addEventListener("pointerdown", (event) => { from = event; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || !event.buttons || !allowed()) return;
      this.by((event.clientX - from.clientX) * 0.008, (event.clientY - from.clientY) * 0.008);
      from = event;
      changed();
    });
  }
}

// Things far away are painted first: pairs of a depth and a way to paint.
export function paintInOrder(things) {
  things.sort((a, b) => b[0] - a[0]);
  for (const [, paint] of things) paint();
}
