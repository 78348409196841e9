// One chart in JupyterLab or Voila. The Vega bundle is another module of the page; it leaves feedbackEmbed behind.

const until = (found) =>
  new Promise((resolve) => {
    const look = () => {
      const value = found();
      value ? resolve(value) : setTimeout(look, 15);
    };
    look();
  });

const margin = 44; // room for the label of the last point

function fitted(spec, width) {
  const own = structuredClone(spec);
  if (own.width === "container") own.width = Math.max(width - margin, 120);
  return own;
}

// What is selected goes to Python once the hand rests: all of it at once, since a click also ends what was dragged.
function tell(view, model) {
  let changed = {};
  let timer;
  for (const { name, select } of model.get("spec").params ?? []) {
    if (!select) continue;
    view.addSignalListener(name, (_, value) => {
      changed[name] = JSON.parse(JSON.stringify(value ?? null));
      clearTimeout(timer);
      timer = setTimeout(() => {
        model.set("selection", { ...model.get("selection"), ...changed });
        model.save_changes();
        changed = {};
      }, 150);
    });
  }
}

async function render({ model, el }) {
  el.classList.add("feedback-chart");
  el.setAttribute("role", "img");
  const embed = await until(() => globalThis.feedbackEmbed);
  await until(() => el.clientWidth > 40);
  let shown = null;
  let latest = 0;

  const draw = async () => {
    const turn = ++latest;
    el.setAttribute("aria-label", model.get("words"));
    const next = document.createElement("div");
    next.style.cssText = "position:absolute;visibility:hidden";
    el.appendChild(next);
    try {
      // ast: expressions are interpreted, so that the page needs no unsafe-eval
      const view = await embed(next, fitted(model.get("spec"), el.clientWidth), {
        actions: false,
        renderer: "svg",
        ast: true,
        tooltip: { theme: "custom" },
      });
      if (turn !== latest) {
        view.finalize();
        next.remove();
        return;
      }
      if (shown) shown.finalize();
      shown = view;
      tell(view.view, model);
      next.style.cssText = "";
      el.replaceChildren(next);
      el.dataset.revision = model.get("revision");
    } catch (problem) {
      next.remove();
      el.textContent = `This chart could not be drawn. ${model.get("words")}`;
      console.error(problem);
    }
  };

  model.on("change:revision", draw);
  await draw();
  let width = el.clientWidth;
  let timer;
  const watch = new ResizeObserver(() => {
    if (Math.abs(el.clientWidth - width) <= 4) return;
    width = el.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(draw, 120);
  });
  watch.observe(el);
  return () => {
    watch.disconnect();
    model.off("change:revision", draw);
    if (shown) shown.finalize();
  };
}

export default { render };
