//! A market of made-up prices: a random walk that the seed decides.

use std::sync::Arc;

use crate::Decimal;

/// One hundredth: the smallest change of a price.
const CENT: i64 = 1_000_000;
/// Prices stay above this.
const LOWEST: i64 = 100 * CENT;

/// In what amounts is traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lot {
    /// In hundred-thousandths, as coins are.
    Fraction,
    /// In whole pieces, as shares are.
    Whole,
}

/// A trade and the best offers after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// In upper case.
    pub symbol: Arc<str>,
    /// Counts trades, and so changes of the book, of this symbol from 1 on by 1.
    pub trade_id: u64,
    /// For how much.
    pub price: Decimal,
    /// How many.
    pub size: Decimal,
    /// The seller took the buyer's offer.
    pub buyer_is_maker: bool,
    /// What buyers offer.
    pub bid: Decimal,
    /// How many they take.
    pub bid_size: Decimal,
    /// What sellers want.
    pub ask: Decimal,
    /// How many they have.
    pub ask_size: Decimal,
    /// When, in nanoseconds since 1970.
    pub time_ns: i64,
}

/// All symbols of one exchange. The same seed and symbols give the same moments but for their time.
#[derive(Debug, Clone)]
pub struct Market {
    instruments: Vec<Instrument>,
    lot: Lot,
    random: SplitMix,
}

#[derive(Debug, Clone)]
struct Instrument {
    symbol: Arc<str>,
    bid: i64,
    trades: u64,
}

impl Market {
    /// A market of these symbols, which are written in upper case.
    #[must_use]
    pub fn new(seed: u64, symbols: &[String], lot: Lot) -> Self {
        let mut random = SplitMix(seed);
        let instruments = symbols
            .iter()
            .map(|symbol| Instrument {
                symbol: symbol.to_ascii_uppercase().into(),
                bid: LOWEST + CENT * random.below(100_000),
                trades: 0,
            })
            .collect();
        Self {
            instruments,
            lot,
            random,
        }
    }

    /// Whether a symbol is traded here.
    #[must_use]
    pub fn trades(&self, symbol: &str) -> bool {
        self.instruments
            .iter()
            .any(|instrument| *instrument.symbol == *symbol)
    }

    /// The next trade, of whichever symbol it is; `None` in a market without any.
    pub fn next(&mut self, time_ns: i64) -> Option<Moment> {
        let count = i64::try_from(self.instruments.len())
            .ok()
            .filter(|count| *count > 0)?;
        let which = usize::try_from(self.random.below(count)).ok()?;
        let step = CENT * (self.random.below(7) - 3);
        let spread = CENT * (1 + self.random.below(3));
        let buyer_is_maker = self.random.below(2) == 0;
        let [size, bid_size, ask_size] = [(); 3].map(|()| match self.lot {
            Lot::Fraction => Decimal::from_units(1_000 * (1 + self.random.below(1_000_000))),
            Lot::Whole => Decimal::from_units(100_000_000 * (1 + self.random.below(500))),
        });
        let instrument = self.instruments.get_mut(which)?;
        instrument.bid = (instrument.bid + step).max(LOWEST);
        instrument.trades += 1;
        let (bid, ask) = (instrument.bid, instrument.bid + spread);
        Some(Moment {
            symbol: instrument.symbol.clone(),
            trade_id: instrument.trades,
            price: Decimal::from_units(if buyer_is_maker { bid } else { ask }),
            size,
            buyer_is_maker,
            bid: Decimal::from_units(bid),
            bid_size,
            ask: Decimal::from_units(ask),
            ask_size,
            time_ns,
        })
    }
}

/// Steele, Lea and Flood's SplitMix64: enough for prices, and the same everywhere.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to less than `limit`, which is small enough for the slight bias not to matter.
    fn below(&mut self, limit: i64) -> i64 {
        (self.next() % limit.unsigned_abs().max(1)) as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn symbols() -> Vec<String> {
        ["btcusdt", "ETHUSDT", "BNBUSDT"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| {
            let mut market = Market::new(seed, &symbols(), Lot::Fraction);
            (0..1000).map_while(|time| market.next(time)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        // The reference values of SplitMix64 with seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(Market::new(1, &[], Lot::Whole).next(0), None);
    }

    proptest! {
        #[test]
        fn books_never_cross_and_numbers_never_skip(seed in any::<u64>()) {
            let mut market = Market::new(seed, &symbols(), Lot::Whole);
            let mut last = std::collections::BTreeMap::<Arc<str>, u64>::new();
            for time in 0..500 {
                let moment = market.next(time).unwrap();
                prop_assert!(moment.bid < moment.ask && moment.bid.units() >= LOWEST);
                prop_assert!(moment.price == moment.bid || moment.price == moment.ask);
                prop_assert!(moment.size.units() > 0);
                let last = last.entry(moment.symbol.clone()).or_default();
                prop_assert_eq!(moment.trade_id, *last + 1);
                *last = moment.trade_id;
            }
        }
    }
}
