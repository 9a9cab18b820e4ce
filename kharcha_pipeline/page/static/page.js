// Draws the bars of the days, and says how long ago instants were. All else is in the page itself.
"use strict";

const ticks = {
  cost: new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", maximumFractionDigits: 2, minimumFractionDigits: 0, notation: "compact" }),
  tokens: new Intl.NumberFormat("en-US", { notation: "compact" }),
};
let chart = null;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw() {
  const canvas = document.getElementById("chart");
  const source = document.getElementById("chart-data");
  if (!canvas || !source || !window.Chart) return;
  const data = JSON.parse(source.textContent);
  if (chart) chart.destroy();
  const text = colour("--muted");
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  chart = new Chart(canvas, {
    type: "bar",
    data: {
      labels: data.labels,
      datasets: data.series.map((series, number) => ({
        label: series.name,
        // Only the height of a bar comes from this number; what is said is `texts`.
        data: series.values.map((value) => (value === null ? null : Number(value))),
        texts: series.texts,
        backgroundColor: colour(`--series-${number}`),
        hoverBackgroundColor: colour(`--series-${number}`),
        borderRadius: 2,
        maxBarThickness: 40,
        categoryPercentage: 0.86,
        barPercentage: 1,
      })),
    },
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: {
          stacked: true,
          border: { color: colour("--line") },
          grid: { display: false },
          ticks: {
            color: text,
            maxRotation: 0,
            autoSkipPadding: 18,
            // The axis has no room for weekdays and years; the tooltip and the table have them.
            callback(value) {
              return this.getLabelForValue(value).replace(/^[A-Z][a-z]{2} (?=\d)/, "").replace(/(?<=\d [A-Z][a-z]{2}) \d{4}$/, "");
            },
          },
        },
        y: {
          stacked: true,
          beginAtZero: true,
          border: { display: false },
          grid: { color: colour("--line") },
          ticks: { color: text, maxTicksLimit: 6, callback: (value) => ticks[data.measure].format(value) },
        },
      },
      plugins: {
        legend: { display: false },
        tooltip: {
          backgroundColor: colour("--tooltip"),
          titleColor: colour("--tooltip-text"),
          bodyColor: colour("--tooltip-text"),
          footerColor: colour("--tooltip-text"),
          padding: 12,
          boxPadding: 4,
          itemSort: (one, other) => other.raw - one.raw,
          filter: (item) => item.dataset.texts[item.dataIndex] !== "–",
          callbacks: {
            label: (item) => `${item.dataset.label}: ${item.dataset.texts[item.dataIndex]}`,
            footer: (items) => {
              if (!items.length) return "";
              const place = items[0].dataIndex;
              const lines = [`All: ${data.totals[place]}`];
              if (data.unpriced[place]) lines.push(`without a price: ${data.unpriced[place]}`);
              return lines;
            },
          },
        },
      },
    },
  });
  canvas.dataset.drawn = "true";
  canvas.parentElement.querySelector(".note")?.remove();
}

function sayHowLongAgo() {
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const element of document.querySelectorAll("time[data-ago]")) {
    const seconds = (new Date(element.dateTime) - Date.now()) / 1000;
    const [size, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]].find(([size]) => Math.abs(seconds) >= size) || [1, "second"];
    element.dataset.absolute ||= element.textContent;
    element.textContent = `${element.dataset.absolute} (${words.format(Math.round(seconds / size), unit)})`;
  }
}

draw();
sayHowLongAgo();
setInterval(sayHowLongAgo, 60000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
