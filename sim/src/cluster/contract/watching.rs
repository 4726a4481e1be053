//! What watches tell of objects that change hands: made anew under their old name, or without our label.

use std::collections::BTreeSet;
use std::sync::Arc;

use airlift_agent::core::event::Event;
use airlift_agent::ports::cluster::APP_LABEL;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Bench, OTHER, entry_of, next_about, object, request};

pub(super) async fn changes_of_hands(bench: &Bench<'_>) {
    let namespace = bench.namespace("hands").await;
    let map = |name: &str| object("v1", "ConfigMap", Some(&namespace), name);
    let (anew, taken) = (map("anew"), map("taken"));
    let first = bench.ours(&anew, json!({})).await;
    let ours = bench.ours(&taken, json!({"data": {"a": "1"}})).await;
    let (sender, mut receiver) = mpsc::channel(64);
    let watching = bench.cluster.watch(BTreeSet::from([Arc::clone(&anew.gvk)]), sender);
    let checking = async {
        while !matches!(receiver.recv().await.expect("the watch goes on"), Event::Listed { .. }) {}
        bench.delete(&anew, &first.uid).await;
        let gone = Event::Gone { object: anew.clone(), uid: first.uid.clone() };
        while next_about(&mut receiver, &anew).await != gone {}
        let second = bench.ours(&anew, json!({})).await;
        assert_eq!(next_about(&mut receiver, &anew).await, entry_of(&anew, &second));
        assert_ne!(second.uid, first.uid);

        let mut relabelled = request(&taken, OTHER, json!({}));
        relabelled.body["metadata"]["labels"][APP_LABEL] = json!("nobody");
        bench.cluster.apply(relabelled).await.expect("it is forced");
        let Event::Seen { entry: Some((_, hash)), .. } = next_about(&mut receiver, &taken).await else {
            panic!("the label is still there, and so is our entry")
        };
        assert_ne!(hash, ours.fields_hash, "our entry shrank");
        bench.others(&taken, json!({})).await;
        let gone = Event::Gone { object: taken.clone(), uid: ours.uid.clone() };
        assert_eq!(next_about(&mut receiver, &taken).await, gone, "without the label it is not watched");
        let found = bench.find(&taken).await.expect("it is there all the same");
        assert!(found.fields_hash.is_some_and(|hash| hash != ours.fields_hash));
        let back = bench.ours(&taken, json!({"data": {"a": "1"}})).await;
        assert_eq!((back.fields_hash, &back.uid), (ours.fields_hash, &ours.uid));
        assert_eq!(next_about(&mut receiver, &taken).await, entry_of(&taken, &back), "and watched again");
    };
    tokio::select! {
        () = watching => panic!("a watch does not end by itself"),
        () = checking => {}
    }
}
