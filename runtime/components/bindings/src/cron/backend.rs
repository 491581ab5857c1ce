//! The binding.

use std::sync::Arc;

use outrigger_bindings::{EventHandler, InputBinding, Reading};
use outrigger_component::{Error, ErrorKind};
use outrigger_engine_schedule::cron::Schedule;
use outrigger_types::Environment;
use tokio::sync::watch;

use super::{
    Clock, CronConfig, Zone,
    reading::{CronReading, Timetable},
};

/// Fires events by a schedule.
#[derive(Debug)]
pub struct Cron {
    schedule: Arc<Schedule>,
    zone: Zone,
    clock: Arc<dyn Clock>,
    closed: watch::Sender<bool>,
}

impl Cron {
    /// A binding on a clock.
    #[must_use]
    pub fn new(config: CronConfig, environment: &Environment, clock: Arc<dyn Clock>) -> Self {
        Self {
            schedule: Arc::new(config.schedule),
            zone: config.zone.unwrap_or_else(|| Zone::of_host(environment)),
            clock,
            closed: watch::Sender::new(false),
        }
    }
}

impl InputBinding for Cron {
    async fn read(&self, handler: Arc<dyn EventHandler>) -> Result<Box<dyn Reading>, Error> {
        if *self.closed.borrow() {
            return Err(Error::new(ErrorKind::Closed, "binding is closed"));
        }
        let timetable = Timetable {
            schedule: Arc::clone(&self.schedule),
            zone: self.zone.clone(),
            clock: Arc::clone(&self.clock),
        };
        Ok(Box::new(CronReading::start(
            timetable,
            handler,
            self.closed.subscribe(),
        )))
    }

    async fn close(&self) -> Result<(), Error> {
        self.closed.send_replace(true);
        Ok(())
    }
}
