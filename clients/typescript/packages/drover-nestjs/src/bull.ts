/** The same exports as those of the package `bull`: the classes, and the types with Bull's names. */
export { Job } from "./job.js";
export { Queue } from "./queue.js";
export type * from "./types.js";
