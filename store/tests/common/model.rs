//! A store in memory with a clock of its own, whose users take turns as a seed decides, and die or are
//! suspended where it says so.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use landfall_store::backend::{Access, Backend, BackendError, Cost, Key, Listed, Put, Upload};

/// Numbers from a seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the place does.
#[derive(Clone, Copy, Default)]
pub struct Habits {
    /// Create-if-absent overwrites, as on servers that ignore the condition.
    pub ignores_conditions: bool,
    /// One in so many turns takes two hours, one in eight times as many four days; 0: none does.
    pub sleeps: u64,
}

struct State {
    objects: BTreeMap<Key, (Vec<u8>, SystemTime)>,
    now: SystemTime,
    turn: usize,
    running: Vec<usize>,
    dice: Dice,
    habits: Habits,
}

/// The place.
pub struct World {
    state: Mutex<State>,
    turned: Condvar,
}

impl World {
    pub fn new(seed: u64, start: SystemTime, habits: Habits) -> Arc<Self> {
        let state = State {
            objects: BTreeMap::new(),
            now: start,
            turn: 0,
            running: Vec::new(),
            dice: Dice(seed),
            habits,
        };
        Arc::new(Self { state: Mutex::new(state), turned: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn advance(&self, by: Duration) {
        self.state().now += by;
    }

    pub fn now(&self) -> SystemTime {
        self.state().now
    }

    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().map(Key::to_string).collect()
    }

    /// Who take turns from now on; a backend of anybody else is not held up.
    pub fn enter(&self, actors: &[usize]) {
        let mut state = self.state();
        state.running = actors.to_vec();
        state.turn = actors[0];
    }

    /// An actor is done.
    pub fn leave(&self, actor: usize) {
        let mut state = self.state();
        state.running.retain(|running| *running != actor);
        if state.turn == actor {
            pass(&mut state);
        }
        self.turned.notify_all();
    }

    /// Waits for this actor's turn; gives it on first, if the dice say so.
    fn turn(&self, actor: usize, keeps: bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if !state.running.contains(&actor) {
            return state;
        }
        if state.turn == actor && !keeps && state.dice.one_in(3) {
            pass(&mut state);
            self.turned.notify_all();
        }
        while state.turn != actor {
            state = self.turned.wait(state).unwrap();
        }
        if !keeps {
            tick(&mut state);
        }
        state
    }
}

fn pass(state: &mut State) {
    if !state.running.is_empty() {
        let next = state.dice.below(state.running.len() as u64) as usize;
        state.turn = state.running[next];
    }
}

fn tick(state: &mut State) {
    let sleeps = state.habits.sleeps;
    let by = if sleeps > 0 && state.dice.one_in(sleeps * 8) {
        Duration::from_secs(4 * 24 * 3600)
    } else if sleeps > 0 && state.dice.one_in(sleeps) {
        Duration::from_secs(2 * 3600)
    } else {
        Duration::from_millis(state.dice.below(3000))
    };
    state.now += by;
}

/// The place as one actor sees it.
pub struct Seat {
    world: Arc<World>,
    actor: usize,
    life: Mutex<Life>,
}

struct Life {
    /// Calls until it dies; `None`: it does not.
    left: Option<u64>,
    /// Calls so far.
    calls: u64,
    /// Asked the time last: what follows happens at once.
    keeps: bool,
}

impl Seat {
    pub fn new(world: &Arc<World>, actor: usize, dies_after: Option<u64>) -> Self {
        let life = Life { left: dies_after, calls: 0, keeps: false };
        Self { world: Arc::clone(world), actor, life: Mutex::new(life) }
    }

    /// One call: counted, at this actor's turn, unless it is dead. `sticky`: the next one follows at once.
    fn call(&self, sticky: bool) -> Result<MutexGuard<'_, State>, BackendError> {
        let keeps = {
            let mut life = self.life.lock().unwrap();
            life.calls += 1;
            if life.left == Some(0) {
                return Err(BackendError::Io {
                    action: "reach",
                    key: "anything".to_owned(),
                    at: "model".to_owned(),
                    source: io::Error::other("killed"),
                });
            }
            life.left = life.left.map(|left| left - 1);
            std::mem::replace(&mut life.keeps, sticky)
        };
        Ok(self.world.turn(self.actor, keeps))
    }
}

struct ModelUpload<'a>(&'a Seat, Vec<u8>);

impl Write for ModelUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for ModelUpload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        let mut state = self.0.call(false)?;
        let now = state.now;
        if state.objects.contains_key(key) && !state.habits.ignores_conditions {
            return Ok(Put::Existed);
        }
        state.objects.insert(key.clone(), (self.1, now));
        Ok(Put::Stored)
    }
    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.0.replace(key, &self.1)
    }
}

impl Backend for Seat {
    fn location(&self) -> String {
        "model".to_owned()
    }
    fn cost(&self) -> Cost {
        Cost { parallel: 1, per_object: 1, gap_bytes: 0, run_bytes: u64::MAX, whole_percent: 100 }
    }
    fn now(&self) -> Result<SystemTime, BackendError> {
        // Collectors are the actors from 100 on. Between their question and the delete that follows nothing
        // happens: see the end of the documentation of `sweep`.
        Ok(self.call(self.actor >= 100)?.now)
    }
    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        Ok(self.call(false)?.objects.get(key).map(|(bytes, _)| bytes.len() as u64))
    }
    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let state = self.call(false)?;
        let (bytes, _) = state
            .objects
            .get(key)
            .ok_or_else(|| BackendError::NotFound { key: key.clone(), at: self.location() })?;
        Ok(Box::new(Cursor::new(bytes.get(offset as usize..).unwrap_or_default().to_vec()).take(length)))
    }
    fn begin(&self, _under: Option<&Key>, _access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        Ok(Box::new(ModelUpload(self, Vec::new())))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        let mut state = self.call(false)?;
        let now = state.now;
        state.objects.insert(key.clone(), (bytes.to_vec(), now));
        Ok(())
    }
    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let prefix = format!("{under}/");
        let state = self.call(false)?;
        let below = state.objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
        Ok(below
            .map(|(key, (bytes, modified))| Listed {
                key: key.clone(),
                size: bytes.len() as u64,
                // As `Last-Modified` says it.
                modified: whole_seconds(*modified),
            })
            .collect())
    }
    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.call(false)?.objects.remove(key);
        Ok(())
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
