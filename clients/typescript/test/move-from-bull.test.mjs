// Tests of the script move-from-bull.mjs on running systems of Bull 4 and BullMQ 6: a job runs once, in the old library or in Drover, even
// if the script is killed at any point or the API is not available.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";

import { Drover, until } from "../packages/drover-client/build/harness.js";
import { OldSystem } from "./old-system.mjs";

const HOUR = 3_600_000;
const LIMIT = { timeout: 180_000 };
const require = createRequire(import.meta.url);

/** Returns `count` due times at equal distances. */
function dues(count, start, step) {
    return Array.from({ length: count }, (_, index) => start + index * step);
}

describe("move-from-bull.mjs", { concurrency: 2 }, () => {
    for (const library of ["bull", "bullmq"]) {
        // The tests run one at a time, because one of the tests kills the API.
        describe(library, { concurrency: 1 }, () => testsOf(library));
    }
});

function testsOf(library) {
    let drover;
    const systems = [];
    const open = async (name) => {
        const system = await OldSystem.open(library, name, drover);
        systems.push(system);
        return system;
    };

    before(async () => {
        drover = await Drover.start();
    });
    after(async () => {
        for (const system of systems) await system.close();
        await drover.stop();
        for (const system of systems) system.proxy.stop();
    });

    test("each delayed job runs exactly once and never early, beside a worker and through kills of the script", LIMIT, async () => {
        const NEAR = 220;
        const FAR = 80;
        const system = await open("kills");
        await system.workInOld();
        system.workInDrover();
        // Jobs that are due in the far future give the killed scripts work to do, even if a slow machine starts the script after all other
        // jobs have run.
        const start = Date.now();
        await system.addDelayed(dues(NEAR, start + 1_500, 20));
        await system.addDelayed(dues(FAR, start + HOUR, 1_000), NEAR);

        for (const [count, isStored] of [[15, true], [10, false], [20, true], [15, true]]) {
            const { data } = await system.killScriptAtRequest(count, isStored);
            // The jobs whose move was interrupted become due before the next call of the script. The old worker must not start such a job,
            // and Drover must not get the job twice.
            if (isStored && data.i < NEAR) await until(`job ${data.i} has run`, () => system.hasRun(data.i));
        }
        assert.ok((await system.set("moving-to-drover")).size > 0, "no kill left a job half moved");
        await system.runScript();
        assert.equal((await system.set("delayed")).size + (await system.set("moving-to-drover")).size, 0);

        await system.untilOnlyDelayed(FAR);
        const messages = await system.messages();
        const far = messages.filter(({ data }) => data.i >= NEAR);
        assert.deepEqual(far.map(({ data }) => data.i).sort((a, b) => a - b), dues(FAR, NEAR, 1));
        for (const { state, data, due_at: due } of far) assert.deepEqual([state, Date.parse(due)], ["delayed", data.due]);
        system.assertEachRanOnce(NEAR);
        console.log(`    ${library}: ${system.count("old")} jobs ran in the old worker, ${system.count("drover")} in Drover`);
    });

    test("jobs that come due while the API is away run once, after its return", LIMIT, async () => {
        const NEAR = 60;
        const FAR = 40;
        const system = await open("away");
        await system.workInOld();
        const start = Date.now();
        await system.addDelayed(dues(NEAR, start + 1_500, 20));
        await system.addDelayed(dues(FAR, start + HOUR, 1_000), NEAR);

        system.proxy.decide = async () => {
            if (system.proxy.requests.length === 10) await drover.api.end("SIGKILL");
            return "pass";
        };
        const script = system.startScript();
        await until("the API is away", () => !drover.api.runs);
        const seen = system.proxy.requests.length;
        await until("the script repeats requests", () => system.proxy.requests.length > seen + 20);
        const near = system.dueTimes(await system.set("moving-to-drover")).filter((due) => due < start + HOUR);
        await until("the jobs that are half moved are due", () => near.every((due) => due < Date.now()));
        await drover.startApi();
        system.workInDrover();
        assert.match(await system.end(script), /moved \d+ jobs and 0 schedules; 0 stay in Bull/);

        await system.untilOnlyDelayed(FAR);
        assert.equal((await system.messages()).filter(({ data }) => data.i >= NEAR).length, FAR);
        system.assertEachRanOnce(NEAR);
    });

    test("schedules move once, with their next runs, when the script is killed between Drover and the old library", LIMIT, async () => {
        const system = await open("schedules");
        // At any time of day, the next runs are hours away, because the script does not move schedules that run soon.
        const now = Date.now();
        const every = [2, 3, 5, 7].map((hours) => hours * HOUR).find((length) => length - (now % length) > HOUR / 4);
        const daily = `30 ${new Date(now + 12 * HOUR).getUTCHours()} * * *`;
        await system.addSchedule("hours", { s: 1 }, { every }, { attempts: 4 });
        await system.addSchedule("daily", { s: 2 }, { pattern: daily, tz: "Asia/Kolkata", limit: 5 });
        await system.addSchedule("each-second", { s: 3 }, { pattern: "* * * * * *" });
        // BullMQ runs the first job of a schedule with `every` at once, and the next job after the interval.
        await system.workInOld();
        const old = await until("all schedules but one wait", async () => {
            const schedules = await system.oldSchedules();
            return [...schedules.values()].filter((next) => next > now + HOUR / 5).length === 2 && schedules;
        });
        assert.equal(old.size, 3);

        await system.killScriptAtRequest(1, true, ["--schedules"]);
        const [half, ...others] = await system.schedules();
        assert.deepEqual(others, []);
        assert.equal((await system.oldSchedules()).size, 3, "the kill came before the script removed the schedule");
        const output = await system.runScript({ options: ["--schedules"] });
        assert.match(output, /moved 0 jobs and 2 schedules; 1 stay in Bull/);
        assert.match(output, /each-second.* stays in Bull: it runs soon/);

        const left = [...(await system.oldSchedules()).keys()];
        assert.deepEqual(left.map((key) => key.split(":")[0]), ["each-second"]);
        const moved = (await system.schedules()).sort((a, b) => a.message.data.s - b.message.data.s);
        const nexts = ["hours", "daily"].map((name) => [...old].find(([key]) => key.startsWith(name))[1]);
        assert.deepEqual(moved.map((schedule) => Date.parse(schedule.next_at[0])), nexts);
        assert.ok(moved.some(({ name }) => name === half.name));
        assert.deepEqual(
            moved.map(({ every, cron, timezone, message }) => [every ?? cron, timezone, message.name, message.data.s, message.max_attempts]),
            [
                [every, null, "hours", 1, 4],
                [daily, "Asia/Kolkata", "daily", 2, 1],
            ],
        );
        assert.equal(moved[1].max_runs, 5);
        assert.deepEqual(await system.messages(), []);
    });

    test("--dry-run prints what would be posted, and changes nothing", LIMIT, async () => {
        const system = await open("dry");
        await system.addDelayed(dues(20, Date.now() + HOUR, 1_000));
        await system.addSchedule("yearly", { s: 1 }, { pattern: `0 0 1 ${((new Date().getMonth() + 6) % 12) + 1} *`, tz: "UTC" });
        // An earlier call of the script was interrupted after it had removed the job.
        await system.redis.zadd(system.queue.toKey("moving-to-drover"), "1", "gone");
        const before = await system.snapshot();
        assert.ok(Object.keys(before).length > 20);

        const lines = (await system.runScript({ options: ["--schedules", "--dry-run"] })).split("\n");
        assert.deepEqual(await system.snapshot(), before);
        assert.deepEqual(system.proxy.requests, []);
        const messages = lines.filter((line) => line.startsWith("message ")).map((line) => JSON.parse(line.slice("message ".length)));
        assert.deepEqual(messages.map(({ data }) => data.i).sort((a, b) => a - b), dues(20, 0, 1));
        for (const { data, deliver_at: due } of messages) assert.equal(Date.parse(due), data.due);
        assert.equal(lines.filter((line) => line.startsWith("schedule ")).length, 1);
    });

    test("a job that Drover refuses stays delayed, at its time, and the others move", LIMIT, async () => {
        const system = await open("refused");
        await system.addDelayed(dues(10, Date.now() + HOUR, 1_000));
        const jobId = "x".repeat(1_000);
        await system.queue.add("mail", { i: 10 }, { delay: HOUR, jobId });
        const score = (await system.set("delayed")).get(jobId);

        assert.match(await system.runScript(), /moved 10 jobs and 0 schedules; 1 stay in Bull/);
        assert.deepEqual([...(await system.set("delayed"))], [[jobId, score]]);
        assert.equal((await system.set("moving-to-drover")).size, 0);
        assert.equal((await system.messages()).length, 10);
    });

    if (library !== "bullmq") return;

    test("jobs of flows stay, children and parents, and the others move", LIMIT, async () => {
        const { FlowProducer, Worker } = require("bullmq");
        const system = await open("flows");
        const { connection, name: queueName } = system;
        const flows = new FlowProducer({ connection });
        const opts = { delay: HOUR };
        const waiting = { name: "parent", queueName, opts, children: [{ name: "child", queueName, opts }] };
        const { children } = await flows.add(waiting);
        // The child job has completed, so its parent has become a delayed job.
        const { job: parent } = await flows.add({ ...waiting, children: [{ name: "done", queueName, data: {} }] });
        const worker = new Worker(queueName, async () => "value", { connection });
        await until("the parent is delayed", async () => (await parent.getState()) === "delayed");
        await worker.close();
        await flows.close();
        await system.addDelayed(dues(10, Date.now() + HOUR, 1_000));
        const expected = new Map([...(await system.set("delayed"))].filter(([id]) => id === parent.id || id === children[0].job.id));
        assert.equal(expected.size, 2);

        const output = await system.runScript();
        assert.match(output, /moved 10 jobs and 0 schedules; 2 stay in Bull/);
        assert.match(output, /belongs to a flow/);
        assert.deepEqual(await system.set("delayed"), expected);
        assert.equal((await system.set("moving-to-drover")).size, 0);
        assert.deepEqual(Object.values(await (await system.queue.getJob(parent.id)).getChildrenValues()), ["value"]);
        assert.equal((await system.messages()).length, 10);
    });
}
