//! A model that cannot be used for a while, or for good, and a key that is changed.

use std::collections::BTreeMap;

use podwright::api::attempt::Phase;
use podwright::api::reasons::Reason;
use serde_json::json;

use crate::stage::Stage;

/// Fails often enough for an outage, then answers.
const BACK: &str = r#"
checks: {pairing: true, prefix: true}
scenarios:
  - name: back
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo x >> ran; cat ran"}}
      - repeat: 4
        http: {status: 503}
      - expect: {lastOutput: "x\n"}
        output:
          - text: Done.
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_comes_back_is_waited_for_across_a_crash() {
    for crashes in [false, true] {
        let mut stage = Stage::new(BACK).await;
        stage.job["model"]["retry"] = json!({"requestMax": 1, "streamMax": 0});
        let mut agent = stage.agent();
        stage.until(|stage| stage.status().phase == Some(Phase::Parked)).await;
        let parked = stage.status();
        assert!(parked.model_failure.contains("503"), "{}", parked.model_failure);
        assert_eq!(parked.outcome, None);
        if crashes {
            agent.crash();
            agent = stage.agent();
        }
        agent.ended().await;
        let status = stage.status();
        let outcome = status.outcome.unwrap();
        assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
        assert_eq!((status.model_failure.as_str(), status.step), ("", 2));
        assert_eq!(stage.file("ran"), "x\n");
        let waits = stage.events().into_iter().filter(|event| event["willRetry"] == true).count();
        assert!(waits >= 3, "each failure is told: {}", stage.log.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_stays_out_is_given_up_with_the_patch_so_far() {
    let script = r#"
scenarios:
  - name: out
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo changed > greet.sh"}}
      - repeat: 100
        http: {status: 529}
"#;
    let mut stage = Stage::new(script).await;
    stage.job["model"]["outageSeconds"] = json!(2);
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::ModelFailed, "{}", outcome.message);
    assert!(outcome.message.contains("outageSeconds (2)"), "{}", outcome.message);
    assert!(!outcome.message.contains("kubectl"), "no key would help: {}", outcome.message);
    assert!(status.patch.unwrap().inline.unwrap().contains("+changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_changed_is_picked_up() {
    let script = r#"
apiKey: new
scenarios:
  - name: key
    replies:
      - output:
          - text: Done.
"#;
    let key = |value: &str| BTreeMap::from([("apiKey".to_owned(), value.as_bytes().to_vec())]);
    let mut stage = Stage::new(script).await;
    stage.job["model"]["credentialsSecretName"] = json!("model-key");
    stage.cluster.secrets.lock().unwrap().insert("model-key".into(), key("old"));
    let agent = stage.agent();
    stage.logged("willRetry").await;
    stage.cluster.secrets.lock().unwrap().insert("model-key".into(), key("new"));
    agent.ended().await;
    let outcome = stage.status().outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());

    // One that stays wrong is for a person to mend.
    let mut stage = Stage::new(script).await;
    stage.job["model"]["credentialsSecretName"] = json!("model-key");
    stage.job["model"]["retry"] = json!({"streamMax": 1});
    stage.cluster.secrets.lock().unwrap().insert("model-key".into(), key("old"));
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::ModelMisconfigured, "{}", outcome.message);
    let command =
        "kubectl create secret generic model-key -n default --from-literal=apiKey=KEY --dry-run=client";
    assert!(outcome.message.contains(command), "{}", outcome.message);

    // So is one that is missing.
    let mut stage = Stage::new(script).await;
    stage.job["model"]["retry"] = json!({"streamMax": 1});
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::ModelMisconfigured, "{}", outcome.message);
    for words in
        ["names no Secret", command, "set credentialsSecretName: model-key on the ModelProvider default"]
    {
        assert!(outcome.message.contains(words), "{words:?} is missing in: {}", outcome.message);
    }
}
