//! A guest: the program, ready to run, and its instances.

use std::{fmt, sync::Arc};

use outrigger_component::Error;
use wasmi::{
    Config, Engine, ExternType, Linker, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc, ValType,
};

use super::{abi, config::WasmConfig, exchange::Exchange, wasi};

/// How much an instance may compute in one call: about a second. Then the call ends with an error.
const FUEL: u64 = if cfg!(test) { 1_000_000 } else { 200_000_000 };
/// How much memory an instance may have.
const MAX_MEMORY: usize = 64 << 20;

/// What the host's functions work on.
pub(super) struct State {
    pub(super) exchange: Exchange,
    pub(super) world: wasi::World,
    pub(super) config: Arc<str>,
    pub(super) name: Arc<str>,
    limits: StoreLimits,
}

/// A compiled guest.
pub(super) struct Program {
    module: Module,
    linker: Linker<State>,
    config: Arc<str>,
    name: Arc<str>,
    strict: bool,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An instance of a guest; it works on one exchange at a time.
pub(super) struct Guest {
    store: Store<State>,
    handle_request: TypedFunc<(), i64>,
    handle_response: TypedFunc<(u32, i32), ()>,
    /// Features that the guest enabled while it started.
    features: u32,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guest")
    }
}

impl Program {
    /// Compiles a guest and looks whether it is a handler.
    pub(super) fn new(config: &WasmConfig, wasm: &[u8]) -> Result<Self, Error> {
        let failed = |message: &'static str| {
            move |error: wasmi::Error| Error::configuration(message).with_source(error.to_string())
        };
        let mut settings = Config::default();
        settings.consume_fuel(true);
        let engine = Engine::new(&settings);
        let module = Module::new(&engine, wasm).map_err(failed("wasm: error compiling guest"))?;
        exports(&module)?;
        let mut linker = Linker::new(&engine);
        abi::define(&mut linker)
            .and_then(|()| wasi::define(&mut linker))
            .map_err(|error| Error::internal(format!("wasm: error instantiating host: {error}")))?;
        Ok(Self {
            module,
            linker,
            config: config.guest_config.as_str().into(),
            name: config.name.as_str().into(),
            strict: config.strict_sandbox,
        })
    }

    /// A new instance, started.
    pub(super) fn instance(&self) -> Result<Guest, Error> {
        let failed = |error: wasmi::Error| {
            Error::configuration("wasm: error instantiating guest").with_source(error.to_string())
        };
        let state = State {
            exchange: Exchange::default(),
            world: wasi::World::new(self.strict),
            config: Arc::clone(&self.config),
            name: Arc::clone(&self.name),
            limits: StoreLimitsBuilder::new().memory_size(MAX_MEMORY).build(),
        };
        let mut store = Store::new(self.linker.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL).map_err(failed)?;
        let instance = self
            .linker
            .instantiate_and_start(&mut store, &self.module)
            .map_err(failed)?;
        for start in ["_initialize", "_start"] {
            if let Ok(start) = instance.get_typed_func::<(), ()>(&store, start) {
                match start.call(&mut store, ()) {
                    // A program that ends well was only set up by it.
                    Err(error) if error.i32_exit_status() != Some(0) => return Err(failed(error)),
                    _ => break,
                }
            }
        }
        let features = store.data().exchange.features;
        Ok(Guest {
            handle_request: instance
                .get_typed_func(&store, "handle_request")
                .map_err(failed)?,
            handle_response: instance
                .get_typed_func(&store, "handle_response")
                .map_err(failed)?,
            store,
            features,
        })
    }
}

/// What a handler must export.
fn exports(module: &Module) -> Result<(), Error> {
    let wrong = |text: &str| Err(Error::configuration(format!("wasm: guest {text}")));
    for (name, params, results) in [
        ("handle_request", &[][..], &[ValType::I64][..]),
        ("handle_response", &[ValType::I32, ValType::I32][..], &[][..]),
    ] {
        match module.get_export(name) {
            Some(ExternType::Func(kind)) if kind.params() == params && kind.results() == results => {}
            Some(ExternType::Func(_)) => {
                return wrong(&format!("exports the wrong signature for func[{name}]"));
            }
            _ => return wrong(&format!("doesn't export func[{name}]")),
        }
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => wrong("doesn't export memory[memory]"),
    }
}

impl Guest {
    pub(super) fn features(&self) -> u32 {
        self.features
    }

    /// The exchange that the guest works on.
    pub(super) fn exchange(&mut self) -> &mut Exchange {
        &mut self.store.data_mut().exchange
    }

    /// Shows the guest a request: whether the next handler is to run, and the guest's own word for the exchange.
    pub(super) fn handle_request(&mut self) -> Result<(bool, u32), String> {
        self.refuel()?;
        let outcome = self.handle_request.call(&mut self.store, ());
        self.report();
        let outcome = outcome.map_err(|error| error.to_string())?;
        let [next, context] =
            [outcome, outcome >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
        Ok((next != 0, context))
    }

    /// Shows the guest the answer.
    pub(super) fn handle_response(&mut self, context: u32) -> Result<(), String> {
        self.refuel()?;
        let outcome = self.handle_response.call(&mut self.store, (context, 0));
        self.report();
        outcome.map_err(|error| error.to_string())
    }

    fn refuel(&mut self) -> Result<(), String> {
        self.store.set_fuel(FUEL).map_err(|error| error.to_string())
    }

    /// Logs what the guest printed.
    fn report(&mut self) {
        let output = self.store.data_mut().world.take_output();
        if !output.is_empty() {
            tracing::debug!(handler = &*self.store.data().name, "wasm output: {output}");
        }
    }
}
