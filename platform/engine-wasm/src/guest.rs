//! One instance of a module. All here blocks: it runs on threads beside the executor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use outrigger_platform_engine::EngineError;
use wasmi::{
    Config, Engine, ExternType, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc,
    TypedResumableCall, ValType, WasmParams, WasmResults,
};

use crate::settings::WasmSettings;

/// Instructions between two looks at the clock: some milliseconds.
const SLICE: u64 = 1_000_000;
/// Instructions of a module's start, unless an event may have fewer.
const START: u64 = 100_000_000;
/// Elements of all tables: functions that can be called by a number.
const TABLE_ELEMENTS: usize = 1 << 20;

const I32: ValType = ValType::I32;

/// Compiles a module and looks whether it is a worker.
///
/// # Errors
/// [`EngineError::Load`] with what is wrong with it.
pub(crate) fn compile(settings: &WasmSettings, wasm: &[u8]) -> Result<Module, EngineError> {
    let load = |why: String| Err(EngineError::Load(why));
    if wasm.len() > settings.module_limit {
        let (size, limit) = (wasm.len(), settings.module_limit);
        return load(format!("the module has {size} bytes; {limit} are allowed"));
    }
    let mut config = Config::default();
    config.consume_fuel(true);
    let module =
        Module::new(&Engine::new(&config), wasm).map_err(|error| EngineError::Load(error.to_string()))?;
    if let Some(import) = module.imports().next() {
        let (from, name) = (import.module(), import.name());
        return load(format!(
            "it imports {from}.{name}; a worker gets nothing from outside"
        ));
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return load("it exports no memory named memory".to_owned());
    }
    for (name, params, results, needed) in [
        ("alloc", &[I32][..], &[I32][..], true),
        ("process", &[I32, I32], &[ValType::I64], true),
        ("free", &[I32, I32], &[], false),
        ("_initialize", &[], &[], false),
    ] {
        match module.get_export(name) {
            Some(ExternType::Func(kind)) if kind.params() == params && kind.results() == results => {}
            None if !needed => {}
            None => return load(format!("it exports no function {name}")),
            Some(_) => {
                return load(format!("its {name} is no function of {params:?} to {results:?}"));
            }
        }
    }
    Ok(module)
}

/// What ends a call before its time: the deadline, or that nobody waits any more.
pub(crate) struct Bounds<'a> {
    pub(crate) deadline: Instant,
    pub(crate) given_up: &'a AtomicBool,
}

/// An instance, ready for events.
pub(crate) struct Guest {
    store: Store<StoreLimits>,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    process: TypedFunc<(i32, i32), i64>,
    free: Option<TypedFunc<(i32, i32), ()>>,
    settings: WasmSettings,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}

impl Guest {
    /// A new instance, started.
    ///
    /// # Errors
    /// [`EngineError::Load`] if it traps, or wants more memory than it may have.
    pub(crate) fn new(module: &Module, settings: &WasmSettings) -> Result<Self, EngineError> {
        let load = |error: wasmi::Error| EngineError::Load(error.to_string());
        let limits = StoreLimitsBuilder::new()
            .memory_size(settings.memory)
            .table_elements(TABLE_ELEMENTS)
            .build();
        let mut store = Store::new(module.engine(), limits);
        store.limiter(|limits| limits);
        store.set_fuel(START.min(settings.fuel)).map_err(load)?;
        let instance = Linker::new(module.engine())
            .instantiate_and_start(&mut store, module)
            .map_err(load)?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&store, "_initialize") {
            initialize.call(&mut store, ()).map_err(load)?;
        }
        let _ = store.set_fuel(0);
        Ok(Self {
            memory: instance
                .get_memory(&store, "memory")
                .ok_or_else(|| EngineError::Load("it exports no memory named memory".to_owned()))?,
            alloc: instance.get_typed_func(&store, "alloc").map_err(load)?,
            process: instance.get_typed_func(&store, "process").map_err(load)?,
            free: instance.get_typed_func(&store, "free").ok(),
            store,
            settings: *settings,
        })
    }

    /// Gives it an event. After an error it is in no known state, and to be thrown away.
    ///
    /// # Errors
    /// [`EngineError::Failed`] if it traps, uses up its instructions or answers nonsense; [`EngineError::Timeout`];
    /// [`EngineError::Closed`] if nobody waits any more.
    pub(crate) fn process(
        &mut self,
        event: &[u8],
        bounds: &Bounds<'_>,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let mut fuel = self.settings.fuel;
        let length = i32::try_from(event.len()).map_err(|_| nonsense("the event is too large"))?;
        let alloc = self.alloc;
        let room = self.call(&alloc, length, bounds, &mut fuel)?;
        self.memory
            .write(&mut self.store, address(room), event)
            .map_err(|_| nonsense("alloc gave room outside of its memory"))?;
        let process = self.process;
        let answer = self.call(&process, (room, length), bounds, &mut fuel)?;
        let (at, size) = halves(answer);
        let said = (answer != 0).then(|| self.read(at, size)).transpose()?;
        if let Some(free) = self.free {
            self.call(&free, (room, length), bounds, &mut fuel)?;
            if answer != 0 {
                self.call(&free, (at, size), bounds, &mut fuel)?;
            }
        }
        Ok(said)
    }

    fn read(&self, at: i32, size: i32) -> Result<Vec<u8>, EngineError> {
        let (at, size, limit) = (address(at), address(size), self.settings.frame_limit);
        if size > limit {
            return Err(EngineError::Failed(format!(
                "an answer of {size} bytes; {limit} are allowed"
            )));
        }
        at.checked_add(size)
            .and_then(|end| self.memory.data(&self.store).get(at..end))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| nonsense("its answer stands outside of its memory"))
    }

    /// Calls a function slice by slice.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &TypedFunc<P, R>,
        params: P,
        bounds: &Bounds<'_>,
        fuel: &mut u64,
    ) -> Result<R, EngineError> {
        let trapped = |error: wasmi::Error| EngineError::Failed(format!("a trap: {error}"));
        self.refuel(SLICE, fuel)?;
        let mut call = function
            .call_resumable(&mut self.store, params)
            .map_err(trapped)?;
        loop {
            let paused = match call {
                TypedResumableCall::Finished(results) => {
                    // What was not used may be used by the next call for the same event.
                    *fuel += self.store.get_fuel().unwrap_or(0);
                    let _ = self.store.set_fuel(0);
                    return Ok(results);
                }
                TypedResumableCall::OutOfFuel(paused) => paused,
                TypedResumableCall::HostTrap(_) => return Err(nonsense("it called outside")),
            };
            if bounds.given_up.load(Ordering::Relaxed) {
                return Err(EngineError::Closed);
            }
            if Instant::now() >= bounds.deadline {
                return Err(EngineError::Timeout(self.settings.timeout));
            }
            // A single instruction on much memory may take more than a slice.
            self.refuel(paused.required_fuel().max(SLICE), fuel)?;
            call = paused.resume(&mut self.store).map_err(trapped)?;
        }
    }

    fn refuel(&mut self, slice: u64, fuel: &mut u64) -> Result<(), EngineError> {
        let left = self.store.get_fuel().unwrap_or(0);
        let slice = slice.min(fuel.saturating_add(left));
        if slice <= left {
            return Err(EngineError::Failed(format!(
                "it used up the {} instructions of an event",
                self.settings.fuel
            )));
        }
        *fuel -= slice - left;
        self.store
            .set_fuel(slice)
            .map_err(|error| EngineError::Failed(error.to_string()))
    }
}

fn nonsense(what: &str) -> EngineError {
    EngineError::Failed(what.to_owned())
}

/// An address of the module's memory, which has no sign.
fn address(number: i32) -> usize {
    number.cast_unsigned() as usize
}

/// An answer's place and size.
#[expect(clippy::cast_possible_truncation, reason = "each half is one number")]
fn halves(answer: i64) -> (i32, i32) {
    ((answer >> 32) as i32, answer as i32)
}
