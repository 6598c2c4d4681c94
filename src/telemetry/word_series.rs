//! Construction of metrics, and series of a metric with one label whose values are a closed list.

use std::marker::PhantomData;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

use crate::words::ClosedList;

/// The label and its value.
type Label = [(&'static str, &'static str); 1];

/// Adds `metric` to the registry and returns it. Clones of a metric count together.
pub(super) fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// A series of `M` for each variant of `W`, all of them from the start. A clone has the same series.
#[derive(Debug)]
pub(super) struct WordSeries<W, M> {
    label: &'static str,
    series: Family<Label, M, fn() -> M>,
    list: PhantomData<fn(W)>,
}

impl<W, M> Clone for WordSeries<W, M> {
    fn clone(&self) -> Self {
        Self { label: self.label, series: self.series.clone(), list: PhantomData }
    }
}

impl<W: ClosedList, M: EncodeMetric + TypedMetric + Metric + Clone> WordSeries<W, M> {
    /// Series of the metric `name` under `label`, each made by `new`.
    pub(super) fn new(
        registry: &mut Registry,
        name: &str,
        help: &str,
        (label, new): (&'static str, fn() -> M),
    ) -> Self {
        let series = registered(registry, name, help, Family::new_with_constructor(new));
        let series = Self { label, series, list: PhantomData };
        for word in W::VARIANTS {
            drop(series.of(*word));
        }
        series
    }

    /// The series of `word`.
    pub(super) fn of(&self, word: W) -> M {
        self.series.get_or_create_owned(&[(self.label, word.label())])
    }
}
