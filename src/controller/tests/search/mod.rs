//! Lives of a few tasks by chance: controllers that die, lag behind and overlap, requests that are lost or answered too
//! late, kubelets, agents and people, each doing the next thing whenever chance lets it. In every state the law holds;
//! and when nothing is lost any more, everything comes to its end, and nothing is left behind.
//!
//! Real passes run against the API server in memory, request by request.

mod cluster;
mod gate;
mod law;
mod people;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use self::cluster::{Agent, befall};
use self::gate::{Fate, Gate};
use self::law::{Law, has_ended};
use self::people::{People, set_suspended};
use self::process::{Done, KEPT, Process};
use super::fixtures::{NAMESPACE, environment_json, provider_json};
use super::server::{Fault, Server};
use super::{ATTEMPT, SetClock, TASK};
use crate::controller::error::Error;
use crate::names::TASK_UID_LABEL;
use crate::search::{Dice, Told, search};

/// Seeds that have failed once. 857: a pod that one controller made while another one recorded the end of its attempt
/// was deleted, and its rights were left.
const KEPT_SEEDS: &[u64] = &[387, 806, 857, 901, 5035, 5962, 20339];

/// Lives in a run without a given time.
const LIVES: u64 = 60;

/// Steps of a life before it becomes calm.
const STEPS: usize = 700;

/// Rounds in which a calm world comes to rest, at most. In a round every pod, agent and task gets its turn; a task has
/// a dozen things before it, and waits of several minutes in between.
const ROUNDS: usize = 300;

/// Passes over one task in a calm world, at most: each change of a pod or an attempt brings one.
const PASSES: usize = 150;

/// The shortest wait for a next pass: half of the first one after a failure.
const SHORTEST: Duration = Duration::from_millis(100);

/// What is waited for longer than this is waited for at rest: retention, a look after lost events.
const REST: i64 = 900_000;

struct Life {
    dice: Dice,
    told: Told,
    server: Server,
    clock: Arc<SetClock>,
    /// Milliseconds.
    now: i64,
    gate: Gate,
    processes: Vec<Process>,
    born: u32,
    agents: Vec<Agent>,
    people: People,
    law: Law,
    judged: usize,
    /// Whether nothing is lost any more.
    calm: bool,
    passes: BTreeMap<String, usize>,
    /// How many tasks may run beside each other, where that is bounded.
    limit: Option<usize>,
    /// Of a hundred requests so many meet a fault.
    trouble: usize,
    /// So many requests are answered before anything else happens: passes mostly end undisturbed.
    burst: usize,
}

#[test]
fn search_controller() {
    search("search_controller", KEPT_SEEDS, LIVES, |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(live(seed));
    });
}

async fn live(seed: u64) {
    let mut life = Life::new(seed);
    let outcome = life.live().await;
    if let Err(broken) = outcome {
        panic!("{}\nseed {seed}: {broken}", life.told.end());
    }
    if std::env::var_os("PODWRIGHT_SEARCH_SEED").is_some() {
        println!("{}", life.told.end());
    }
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let server = Server::default();
        server.linger();
        server.set_now(1_000);
        let limit = dice.chance(25).then(|| 1 + dice.below(2));
        let mut provider = provider_json();
        if let Some(limit) = limit {
            provider["spec"]["limits"] = serde_json::json!({"concurrentTasks": limit});
        }
        server.put("agentenvironments", environment_json());
        server.put("modelproviders", provider);
        let clock = Arc::new(SetClock::default());
        clock.0.store(1_000, Ordering::Relaxed);
        Self {
            dice,
            told: Told::default(),
            server,
            clock,
            now: 1_000_000,
            gate: Gate::default(),
            processes: Vec::new(),
            born: 0,
            agents: Vec::new(),
            people: People::default(),
            law: Law::default(),
            judged: 0,
            calm: false,
            passes: BTreeMap::new(),
            limit,
            trouble: 0,
            burst: 0,
        }
    }

    async fn live(&mut self) -> Result<(), String> {
        self.trouble = *self.dice.pick(&[0, 1, 2, 5, 15]);
        self.start_process();
        while self.people.create(&self.server, &mut self.dice).is_none() {}
        for _ in 0..self.dice.below(STEPS) {
            self.step();
            self.settle().await?;
        }
        self.told.tell("-- from here on nothing is lost any more --");
        self.calm_down();
        self.rest().await?;
        self.check_ends()?;
        for name in self.server.names(TASK) {
            self.server.remove(TASK, &name);
        }
        self.told.tell("-- all tasks are deleted --");
        self.rest().await?;
        self.check_nothing_is_left()
    }

    /// One thing happens.
    fn step(&mut self) {
        let now = self.now;
        if self.burst > 0 && self.gate.len() > 0 {
            self.burst -= 1;
            let fate = self.fate();
            return self.meet(fate);
        }
        match self.dice.below(100) {
            0..=44 if self.gate.len() > 0 => {
                let fate = self.fate();
                self.meet(fate);
            }
            45..=59 => self.watch(),
            60..=71 => self.begin(),
            72..=79 => self.kubelet(),
            80..=87 => self.agent(),
            88..=90 => {
                let what = self.people.act(&self.server, &mut self.dice);
                self.told.steps_of(what);
                self.processes.iter_mut().for_each(|process| process.wake_waiting(now));
            }
            91 => {
                self.garbage();
            }
            92 if self.dice.chance(40) => self.replace(),
            93..=99 => {
                let step = *self
                    .dice
                    .pick(&[200, 1_000, 1_000, 1_000, 5_000, 5_000, 16_000, 16_000, 130_000, 700_000]);
                self.later(step);
            }
            _ => {}
        }
    }

    /// What becomes of a request now.
    fn fate(&mut self) -> Fate {
        if !self.dice.chance(self.trouble) {
            return Fate::Answered;
        }
        let lost = [Fault::LostRequest, Fault::LostAnswer].map(Fate::Lost);
        *self.dice.pick(&[lost[0], lost[1], lost[1], Fate::TooMany, Fate::Conflict, Fate::Quota])
    }

    fn meet(&mut self, fate: Fate) {
        let pending = self.gate.take(self.dice.below(self.gate.len()));
        let asked = &pending.call.asked;
        let fate = match fate {
            Fate::Quota if asked.method == http::Method::POST && asked.resource == "pods" => {
                self.law.quota = true;
                fate
            }
            Fate::Quota => Fate::Answered,
            Fate::Conflict if asked.method != http::Method::PATCH => Fate::Answered,
            fate => fate,
        };
        let words =
            format!("{} {} {} {}: {fate:?}", pending.process, asked.method, asked.resource, asked.name);
        self.told.tell(words);
        pending.meet(&self.server, fate);
    }

    /// A watch shows some of what it has not shown yet, or all of it.
    fn watch(&mut self) {
        let changes = self.server.changes_count();
        let kind = *self.dice.pick(&KEPT);
        let place = self.dice.below(self.processes.len());
        let lag = self.processes[place].lag(kind, changes);
        if lag == 0 {
            return;
        }
        let count = if self.dice.chance(50) { lag } else { 1 + self.dice.below(lag) };
        self.show(place, kind, count);
    }

    fn show(&mut self, place: usize, kind: &'static str, count: usize) {
        let from = self.server.changes_count() - self.processes[place].lag(kind, self.server.changes_count());
        let changes = &self.server.changes(from)[..count];
        let process = &mut self.processes[place];
        process.show(kind, changes, self.now);
        self.told.tell(format!("{} sees {kind} up to {}", process.number, from + count));
    }

    /// A controller whose first lists are whole begins a pass that is due.
    fn begin(&mut self) {
        let place = self.dice.below(self.processes.len());
        let now = self.now;
        let process = &mut self.processes[place];
        if !process.is_filled() && self.dice.chance(30) {
            process.fill(now);
        }
        let ready = process.ready(now);
        if ready.is_empty() {
            return;
        }
        let task = self.dice.pick(&ready).clone();
        if self.dice.chance(70) {
            self.burst = self.dice.below(50);
        }
        if process.begin(&task) {
            *self.passes.entry(task.clone()).or_default() += 1;
            self.told.tell(format!("{} begins a pass over {task}", self.processes[place].number));
        }
    }

    fn kubelet(&mut self) {
        let pods = self.server.names("pods");
        if pods.is_empty() {
            return;
        }
        let pod = self.dice.pick(&pods);
        let what = befall(&self.server, pod, &mut self.agents, &mut self.dice, self.calm);
        self.told.steps_of(what);
    }

    fn agent(&mut self) {
        if self.agents.is_empty() {
            return;
        }
        let place = self.dice.below(self.agents.len());
        let what = self.agents[place].step(&self.server, self.server.now());
        self.told.steps_of(what);
    }

    fn garbage(&mut self) -> bool {
        let mut found = self.server.collect_garbage();
        for name in self.server.names(TASK) {
            let task = self.server.get(TASK, &name).unwrap();
            if task["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let is_own =
                |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == task["metadata"]["uid"];
            let attempts = self.server.names(ATTEMPT);
            let own: Vec<_> = attempts
                .iter()
                .filter(|name| self.server.get(ATTEMPT, name).is_some_and(|attempt| is_own(&attempt)))
                .collect();
            found = true;
            match own.first() {
                Some(attempt) => self.server.remove(ATTEMPT, attempt),
                None => self.server.finish(TASK, &name),
            }
        }
        if found {
            self.told.tell("the garbage collector comes");
        }
        found
    }

    /// A controller dies in the middle of what it does, or another one begins beside it and it only ends its passes.
    fn replace(&mut self) {
        let place = self.dice.below(self.processes.len());
        if self.dice.chance(35) && self.processes.len() == 1 {
            self.told.tell(format!("{} retires", self.processes[place].number));
            self.processes[place].retired = true;
        } else {
            let process = self.processes.remove(place);
            self.told.tell(format!("{} is killed", process.number));
            let fate = if self.dice.chance(50) { Fault::LostAnswer } else { Fault::LostRequest };
            for pending in self.gate.of(process.number) {
                pending.meet(&self.server, Fate::Lost(fate));
            }
            process.die();
        }
        if self.processes.iter().all(|process| process.retired) {
            self.start_process();
        }
    }

    /// Its first lists may come from an API server that lags behind.
    fn start_process(&mut self) {
        self.born += 1;
        self.told.tell(format!("{} starts", self.born));
        self.processes.push(Process::new(self.born, &self.gate, &self.clock));
        let place = self.processes.len() - 1;
        let changes = self.server.changes_count();
        for kind in KEPT {
            let count = changes.saturating_sub(self.dice.below(12));
            self.show(place, kind, count);
        }
        if self.dice.chance(80) {
            self.processes[place].fill(self.now);
        }
    }

    /// Time passes. What was asked longer than 10 s ago is answered or given up by then.
    fn later(&mut self, milliseconds: i64) {
        if milliseconds >= 10_000 {
            while self.gate.len() > 0 {
                let fate = if self.calm { Fate::Answered } else { self.fate() };
                self.meet(fate);
            }
        }
        self.now += milliseconds;
        let second = self.now / 1_000;
        self.told.tell(format!("it is {second} s"));
        self.clock.0.store(second, Ordering::Relaxed);
        self.server.set_now(second);
    }

    /// Waits until nobody can go on by himself, and judges what has changed.
    async fn settle(&mut self) -> Result<(), String> {
        // The clock of the runtime stands still until nothing else can run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for process in &mut self.processes {
            for done in process.ended(self.now) {
                let Done { task, again, error } = done;
                let number = process.number;
                self.told.tell(format!("{number} is done with {task}: again {again:?}, {error:?}"));
                if let Some(Error::Panicked(panic)) = error {
                    return Err(format!("a pass panicked: {panic}"));
                }
                if again.is_some_and(|again| again < SHORTEST) {
                    return Err(format!("a pass is made again after {again:?}"));
                }
            }
        }
        self.processes.retain(|process| !process.retired || process.is_busy());
        for change in self.server.changes(self.judged) {
            self.judged += 1;
            self.law.judge(&self.server, &change)?;
        }
        self.check_queue()
    }

    /// No more tasks run than may. One controller alone is held to it: what the one before has let through, the next learns
    /// from its watches, which may lag. A task that is being deleted does not count: it may have its pod for a while, in the
    /// foreground as in the background, where it is gone at once.
    fn check_queue(&self) -> Result<(), String> {
        let Some(limit) = self.limit.filter(|_| self.born == 1) else { return Ok(()) };
        let pods = self.server.names("pods").into_iter().filter_map(|name| self.server.get("pods", &name));
        let tasks: BTreeSet<String> = pods
            .filter_map(|pod| pod["metadata"]["labels"][TASK_UID_LABEL].as_str().map(str::to_owned))
            .collect();
        let goes_on = |uid: &String| {
            let tasks = self.server.names(TASK).into_iter().filter_map(|name| self.server.get(TASK, &name));
            let mut own = tasks.filter(|task| task["metadata"]["uid"] == uid.as_str());
            own.any(|task| !has_ended(&task) && task["metadata"]["deletionTimestamp"].is_null())
        };
        let running: Vec<&String> = tasks.iter().filter(|uid| goes_on(uid)).collect();
        if running.len() > limit { Err(format!("{running:?} run, and {limit} may")) } else { Ok(()) }
    }

    /// Whatever was in the way is gone, and everybody lets the tasks go on.
    fn calm_down(&mut self) {
        self.calm = true;
        while self.people.bring_back(&self.server).is_some() || self.people.make_way(&self.server).is_some() {
        }
        for task in self.server.names(TASK) {
            let what = set_suspended(&self.server, &task, false);
            self.told.steps_of(what);
        }
        let now = self.now;
        for process in &mut self.processes {
            process.fill(now);
            process.wake_waiting(now);
        }
        self.passes.clear();
    }

    /// Goes on until nothing changes any more.
    async fn rest(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            if self.round().await? {
                continue;
            }
            let due = self.processes.iter().filter(|process| !process.retired);
            let next = due.flat_map(|process| process.due.values()).min().copied();
            // What is due at rest is due again and again.
            match next {
                Some(next) if next - self.now < REST && !self.is_at_rest() => {
                    self.later((next - self.now).max(1_000));
                }
                _ => return self.check_passes(),
            }
        }
        Err(format!("no rest after {ROUNDS} rounds"))
    }

    /// Whether all that is there has ended, and nothing of it is due before long.
    fn is_at_rest(&self) -> bool {
        let ended = |name: &String| self.server.get(TASK, name).is_some_and(|task| has_ended(&task));
        self.server.names(TASK).iter().all(ended) && self.server.names("pods").is_empty()
    }

    /// Everybody gets a turn; says whether anything happened.
    async fn round(&mut self) -> Result<bool, String> {
        let before = self.told.len();
        while self.gate.len() > 0 {
            self.meet(Fate::Answered);
            self.settle().await?;
        }
        for place in 0..self.processes.len() {
            for kind in KEPT {
                let lag = self.processes[place].lag(kind, self.server.changes_count());
                if lag > 0 {
                    self.show(place, kind, lag);
                }
            }
        }
        for place in 0..self.processes.len() {
            for task in self.processes[place].ready(self.now) {
                if self.processes[place].begin(&task) {
                    *self.passes.entry(task.clone()).or_default() += 1;
                    self.told.tell(format!("{} begins a pass over {task}", self.processes[place].number));
                }
            }
        }
        self.settle().await?;
        self.garbage();
        for pod in self.server.names("pods") {
            let what = befall(&self.server, &pod, &mut self.agents, &mut self.dice, true);
            self.told.steps_of(what);
        }
        for place in 0..self.agents.len() {
            let what = self.agents[place].step(&self.server, self.server.now());
            self.told.steps_of(what);
        }
        self.settle().await?;
        Ok(self.told.len() > before || self.gate.len() > 0)
    }

    fn check_passes(&self) -> Result<(), String> {
        match self.passes.iter().find(|(_, passes)| **passes > PASSES) {
            Some((task, passes)) => Err(format!("{passes} passes over {task} in a calm world")),
            None => Ok(()),
        }
    }

    /// Every task has ended, and what ended has no pod and no rights any more.
    fn check_ends(&self) -> Result<(), String> {
        for name in self.server.names(TASK) {
            let task = self.server.get(TASK, &name).unwrap();
            if !has_ended(&task) {
                return Err(format!("{name} never ends: {:#}", task["status"]));
            }
        }
        for kind in ["pods", "rolebindings", "roles", "serviceaccounts"] {
            let left = self.server.names(kind);
            if !left.is_empty() {
                return Err(format!("{kind} are left of tasks that have ended: {left:?}"));
            }
        }
        Ok(())
    }

    fn check_nothing_is_left(&self) -> Result<(), String> {
        for kind in ["pods", "rolebindings", "roles", "serviceaccounts", "configmaps", ATTEMPT] {
            let left = self.server.names(kind);
            if !left.is_empty() {
                return Err(format!("{kind} are left of tasks that are gone: {left:?}"));
            }
        }
        Ok(())
    }
}
