import "./style/base.css";
import "./style/frame.css";
import "./style/graph.css";
import "./style/pages.css";
import "./style/changes.css";
import "uplot/dist/uPlot.min.css";

import { render } from "preact";
import { App } from "./app";

const root = document.getElementById("app");
if (root) render(<App />, root);
