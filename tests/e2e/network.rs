//! What commands reach in a real pod: names that lead into the cluster, its addresses and the node's are refused, and
//! the model and the status say so.

use podwright::api::attempt::NetworkStatus;
use serde_json::json;

use crate::world::{World, succeeded};

/// Lists names of the cluster as well, since a list must not open what it leads to.
const SCRIPT: &str = r#"
scenarios:
  - name: network
    replies:
      - output:
          - call:
              tool: exec_command
              arguments:
                cmd: |
                  python3 - <<'END'
                  import os, socket, urllib.error, urllib.request
                  for url in ["http://kubernetes.default.svc.cluster.local:443/", "http://10.96.0.1:443/",
                              "http://10.244.0.1:10250/", "http://169.254.169.254/", "http://unlisted.example/"]:
                      try: print("LEAK", url, urllib.request.urlopen(url).status)
                      except urllib.error.HTTPError as error: print("REFUSED", error.code, url)
                  for address in [("10.96.0.1", 443), ("10.244.0.1", 10250)]:
                      try:
                          socket.create_connection(address, 5)
                          print("LEAK", address)
                      except OSError as error:
                          print("REFUSED", address, error)
                  END
      - expect: {lastOutput: {matches: '(?s)(REFUSED 403 http[^\n]*\n){5}(REFUSED \([^\n]*\n){2}.*The network proxy of the sandbox has refused:', excludes: LEAK}}
        output: [{text: Done.}]
"#;

#[tokio::test]
async fn a_list_opens_nothing_of_the_cluster() {
    let world = World::new("network", SCRIPT).await;
    world.git.repository("app", &[("a", "a\n")]);
    let names = ["kubernetes.default.svc.cluster.local:443", "example.com"];
    let network = json!({"network": {"mode": "Allowlist", "names": names, "presets": ["Python"]}});
    world.apply_environment("default", &network).await;
    world.create_task("probe", "app", &json!({})).await;
    let task = world.ended("probe").await;
    assert_eq!(succeeded(&task).1, "Completed", "{}", succeeded(&task).2);
    let network: NetworkStatus =
        world.attempt("probe").await.status.and_then(|status| status.network).expect("a proxy");
    assert_eq!(network.refused, 5, "{}", network.last_refused);
    world.end().await;
}
