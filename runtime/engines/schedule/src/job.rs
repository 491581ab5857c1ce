//! Jobs of the scheduler (go-etcd-cron `internal/scheduler`): when each trigger is due.

use jiff::Zoned;

use crate::{
    cron::{CronError, Parser, Schedule},
    point::{PointError, parse_job_time},
};

/// A job that makes no schedule; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It never fires.
    #[error("job must have either a due time or a schedule")]
    Nothing,
    /// It repeats without a schedule.
    #[error("job must have a schedule to repeat")]
    RepeatsAlone,
    /// It repeats zero times.
    #[error("defined repeats must be greater than 0")]
    ZeroRepeats,
    /// It ends without a schedule.
    #[error("job must have a schedule to have a ttl")]
    TtlAlone,
    /// The schedule cannot be read.
    #[error(transparent)]
    Schedule(#[from] CronError),
    /// The due time cannot be read.
    #[error(transparent)]
    DueTime(#[from] PointError),
    /// The time to live cannot be read.
    #[error("ttl format not recognized")]
    Ttl,
    /// It would end before it starts.
    #[error("ttl must be greater than due time")]
    Expired,
}

/// Where the counting of triggers starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// The first trigger is the schedule's next time after this.
    Start(Zoned),
    /// The first trigger is this very time.
    DueTime(Zoned),
}

/// When a job fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSchedule {
    schedule: Option<Schedule>,
    begin: Begin,
    expiration: Option<Zoned>,
    repeats: Option<u32>,
}

/// What a user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobSpec<'a> {
    /// Cron expression or descriptor.
    pub schedule: Option<&'a str>,
    /// First trigger.
    pub due_time: Option<&'a str>,
    /// How many triggers in all.
    pub repeats: Option<u32>,
    /// Last possible trigger, counted from the due time, else from now.
    pub ttl: Option<&'a str>,
}

impl JobSchedule {
    /// Checks and reads a new job; `now` is in UTC upstream.
    ///
    /// # Errors
    /// When it makes no schedule.
    pub fn new(spec: &JobSpec<'_>, parser: &Parser, now: &Zoned) -> Result<Self, JobError> {
        match spec {
            JobSpec {
                schedule: None,
                due_time: None,
                ..
            } => return Err(JobError::Nothing),
            JobSpec {
                schedule: None,
                repeats: Some(2..),
                ..
            } => return Err(JobError::RepeatsAlone),
            JobSpec { repeats: Some(0), .. } => return Err(JobError::ZeroRepeats),
            JobSpec {
                schedule: None,
                ttl: Some(_),
                ..
            } => return Err(JobError::TtlAlone),
            _ => {}
        }
        let schedule = spec.schedule.map(|text| parser.parse(text)).transpose()?;
        let begin = match spec.due_time {
            Some(due) => Begin::DueTime(parse_job_time(due, now)?),
            None => Begin::Start(now.clone()),
        };
        let expiration = match spec.ttl {
            None => None,
            Some(ttl) => {
                let start = match &begin {
                    Begin::DueTime(due) => due,
                    Begin::Start(_) => now,
                };
                let expiration = parse_job_time(ttl, start).map_err(|_| JobError::Ttl)?;
                if matches!(&begin, Begin::DueTime(due) if *due > expiration) {
                    return Err(JobError::Expired);
                }
                Some(expiration)
            }
        };
        Ok(Self {
            schedule,
            begin,
            expiration,
            repeats: spec.repeats,
        })
    }

    /// From what the store keeps of a job.
    #[must_use]
    pub const fn from_stored(
        schedule: Option<Schedule>,
        begin: Begin,
        expiration: Option<Zoned>,
        repeats: Option<u32>,
    ) -> Self {
        Self {
            schedule,
            begin,
            expiration,
            repeats,
        }
    }

    /// Where counting starts.
    #[must_use]
    pub const fn begin(&self) -> &Begin {
        &self.begin
    }

    /// When it ends.
    #[must_use]
    pub const fn expiration(&self) -> Option<&Zoned> {
        self.expiration.as_ref()
    }

    /// The trigger after `count` have happened, the last of them at `last`; `None` when the job is done.
    #[must_use]
    pub fn next(&self, count: u32, last: Option<&Zoned>) -> Option<Zoned> {
        let Some(schedule) = &self.schedule else {
            let (Begin::Start(time) | Begin::DueTime(time)) = &self.begin;
            return (count == 0).then(|| time.clone());
        };
        if self.repeats.is_some_and(|repeats| count >= repeats) {
            return None;
        }
        match (last, &self.begin) {
            (None, Begin::DueTime(due)) => Some(due.clone()),
            (None, Begin::Start(start)) => schedule.next(start),
            (Some(last), _) => schedule.next(last).filter(|next| {
                self.expiration
                    .as_ref()
                    .is_none_or(|expiration| next <= expiration)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::Seconds;
    use jiff::{
        Timestamp,
        tz::{TimeZone, TimeZoneDatabase},
    };

    fn now() -> Zoned {
        "2026-01-01T00:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    fn new(spec: JobSpec<'_>) -> Result<JobSchedule, JobError> {
        JobSchedule::new(
            &spec,
            &Parser::new(Seconds::Required, TimeZoneDatabase::none()),
            &now(),
        )
    }

    fn triggers(spec: JobSpec<'_>, most: u32) -> Vec<String> {
        let job = new(spec).unwrap();
        let mut last = None;
        let mut times = Vec::new();
        for count in 0..most {
            let Some(next) = job.next(count, last.as_ref()) else {
                break;
            };
            times.push(next.time().to_string());
            last = Some(next);
        }
        times
    }

    #[test]
    fn when_jobs_fire() {
        let every = JobSpec {
            schedule: Some("@every 10s"),
            ..JobSpec::default()
        };
        assert_eq!(triggers(every, 2), ["00:00:10", "00:00:20"]);
        assert_eq!(
            triggers(
                JobSpec {
                    due_time: Some("5s"),
                    ..every
                },
                2
            ),
            ["00:00:05", "00:00:15"]
        );
        assert_eq!(
            triggers(
                JobSpec {
                    due_time: Some("0s"),
                    repeats: Some(1),
                    ..every
                },
                9
            ),
            ["00:00:00"]
        );
        assert_eq!(
            triggers(
                JobSpec {
                    ttl: Some("30s"),
                    ..every
                },
                9
            ),
            ["00:00:10", "00:00:20", "00:00:30"]
        );
        assert_eq!(
            triggers(
                JobSpec {
                    repeats: Some(2),
                    ..every
                },
                9
            )
            .len(),
            2
        );
        assert_eq!(
            triggers(
                JobSpec {
                    due_time: Some("PT1M"),
                    ..JobSpec::default()
                },
                9
            ),
            ["00:01:00"]
        );
        assert_eq!(
            triggers(
                JobSpec {
                    schedule: Some("0 30 * * * *"),
                    ..JobSpec::default()
                },
                1
            ),
            ["00:30:00"]
        );
    }

    #[test]
    fn mistakes() {
        let every = JobSpec {
            schedule: Some("@every 10s"),
            ..JobSpec::default()
        };
        let due = JobSpec {
            due_time: Some("1s"),
            ..JobSpec::default()
        };
        for (spec, error) in [
            (
                JobSpec::default(),
                "job must have either a due time or a schedule",
            ),
            (
                JobSpec {
                    repeats: Some(2),
                    ..due
                },
                "job must have a schedule to repeat",
            ),
            (
                JobSpec {
                    repeats: Some(0),
                    ..every
                },
                "defined repeats must be greater than 0",
            ),
            (
                JobSpec {
                    ttl: Some("1s"),
                    ..due
                },
                "job must have a schedule to have a ttl",
            ),
            (
                JobSpec {
                    schedule: Some("* * * * *"),
                    ..due
                },
                "expected exactly 6 fields, found 5: [* * * * *]",
            ),
            (
                JobSpec {
                    due_time: Some("x"),
                    ..every
                },
                "due time format not recognized",
            ),
            (
                JobSpec {
                    ttl: Some("x"),
                    ..every
                },
                "ttl format not recognized",
            ),
            (
                JobSpec {
                    due_time: Some("10s"),
                    ttl: Some("2026-01-01T00:00:05Z"),
                    ..every
                },
                "ttl must be greater than due time",
            ),
        ] {
            assert_eq!(new(spec).unwrap_err().to_string(), error);
        }
        assert!(
            new(JobSpec {
                repeats: Some(1),
                ..due
            })
            .is_ok()
        );
    }
}
