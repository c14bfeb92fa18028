// Runs each model that the job names on the recordings that the job names, and says which bytes it was given.
import { loadAndCompile, loadLiteRt, supportsFeature, Tensor, unloadLiteRt } from "/npm/@litertjs/core/dist/index.js";
import * as ort from "/npm/onnxruntime-web/dist/ort.wasm.min.mjs";

const LITERT_FILES = "/npm/@litertjs/core/wasm/";
// The package chooses the first where the browser has relaxed SIMD, else the second.
const LITERT_BUILDS = { litert: "litert_wasm_internal.js", litert_compat: "litert_wasm_compat_internal.js" };

async function bytes(url) {
  const response = await fetch(url, { cache: "no-store" });
  if (!response.ok) throw new Error(`${url}: found status ${response.status}, expected 200`);
  return new Uint8Array(await response.arrayBuffer());
}

async function sha256(content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Little-endian float32 [recording, lead, time] without header -> one Float32Array a recording.
function recordings(content, shape) {
  const size = shape.reduce((a, b) => a * b, 1);
  const all = new Float32Array(content.buffer);
  return Array.from({ length: all.length / size }, (_, i) => all.slice(i * size, (i + 1) * size));
}

async function withLiteRt(content, ecg, shape) {
  const model = await loadAndCompile(content, { accelerator: "wasm" });
  const rows = [];
  for (const record of ecg) {
    const input = new Tensor(record, shape);
    const output = await model.run({ ecg: input });
    rows.push([...output.logits.toTypedArray(), ...output.uncertainty.toTypedArray()]);
    for (const tensor of [input, output.logits, output.uncertainty]) tensor.delete();
  }
  model.delete();
  return rows;
}

async function withOrt(content, ecg, shape) {
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  const rows = [];
  for (const record of ecg) {
    const output = await session.run({ ecg: new ort.Tensor("float32", record, shape) });
    rows.push([...output.logits.data, ...output.uncertainty.data]);
  }
  await session.release();
  return rows;
}

async function answerAll(models, ecg, shape, run) {
  const answers = [];
  for (const model of models) {
    const content = await bytes(model.url);
    const hash = await sha256(content);
    answers.push({ ...model, sha256: hash, rows: await run(content, ecg.slice(0, model.count), shape) });
  }
  return answers;
}

window.answer = async (job) => {
  const content = await bytes(job.ecg);
  const ecg = recordings(content, job.shape);
  const of = (runtime) => job.models.filter((model) => model.runtime === runtime);
  const answers = [];
  for (const [runtime, build] of Object.entries(LITERT_BUILDS)) {
    await loadLiteRt(LITERT_FILES + build);
    answers.push(...(await answerAll(of(runtime), ecg, job.shape, withLiteRt)));
    unloadLiteRt();
  }
  ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
  ort.env.wasm.numThreads = 1;
  answers.push(...(await answerAll(of("onnx"), ecg, job.shape, withOrt)));
  const relaxed = await supportsFeature("relaxedSimd");
  return { answers, ecg_sha256: await sha256(content), relaxed_simd: Boolean(relaxed), ort: ort.env.versions.web };
};
