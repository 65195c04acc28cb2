//! Secrets that never enter the guest: what it has instead, what servers get, and what comes back.

use std::process::Stdio;

use pyro_tests::{
    Canary, Home, finish,
    world::{Answer, OUTSIDE, Prober, World},
};

/// Makes requests by HTTPS with what a guest trusts. Each argument is one: HOST PORT PATH HEADER VALUE, with variables; each is answered by
/// one line: who signed for the server, the status, and the body.
const CLIENT: &str = r#"
import http.client, os, ssl, sys
for line in sys.argv[1:]:
    host, port, path, header, value = os.path.expandvars(line).split(" ", 4)
    plain = port == "80"
    try:
        if plain:
            connection = http.client.HTTPConnection(host, 80, timeout=10)
        else:
            connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=ssl.create_default_context())
        connection.connect()
        issuer = "nobody" if plain else dict(part for parts in connection.sock.getpeercert()["issuer"] for part in parts)["commonName"]
        connection.request("GET", path, headers={header: value})
        answer = connection.getresponse()
        print(issuer, "says", answer.status, answer.read().decode().strip().replace("\n", " | "))
    except Exception as error:
        print(type(error).__name__, error)
"#;

struct Guest<'a> {
    home: &'a Home,
    workspace: String,
}

impl Guest<'_> {
    /// Makes requests and returns a line for each.
    fn asks(&self, lines: &[&str]) -> Vec<String> {
        let mut arguments = vec!["workspace", "exec", &self.workspace, "--secret-env", "TOKEN", "--", "python3", "-c", CLIENT];
        arguments.extend(lines);
        let said: Vec<String> = self.home.pyro(&arguments).ok().text().lines().map(str::to_owned).collect();
        assert_eq!(said.len(), lines.len(), "{said:#?}");
        said
    }
}

#[test]
fn a_secret_that_stays_outside_is_sent_to_its_host_in_its_header_and_nowhere_else() {
    let Some(world) = World::with_environment("debian:12") else { return };
    for name in ["api.test", "other.test", "bad.untrusted.test"] {
        world.names().set(name, Answer::addresses(&[OUTSIDE]));
    }
    let canary = Canary::new();
    let authority = tempfile::NamedTempFile::new().expect("there is room");
    std::fs::write(authority.path(), world.authority()).expect("there is room");
    let home = world.home().with("PYRO_CERTIFICATES", &authority.path().to_string_lossy());
    let mut create = home.command(&["workspace", "create", "debian:12", "--mem-mib", "512", "--id-only", "--network-policy", "egress"]);
    create.args(["--secret", "TOKEN", "--secret-host", "api.test", "--secret-host", "bad.untrusted.test", "--secret-header", "X-Key"]);
    create.env("TOKEN", canary.text()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let workspace = finish(create.spawn().expect("pyro starts")).ok().text();
    let guest = Guest { home: &home, workspace: workspace.clone() };
    let stand_in = home.sh(&workspace, "cat /run/pyro-secrets/TOKEN");
    assert!(stand_in.starts_with("pyro-secret-TOKEN-") && !canary.is_in(stand_in.as_bytes()), "{stand_in}");

    // Where it belongs, it arrives; what comes back is what the guest has sent.
    let said = guest.asks(&["api.test 443 /headers x-key Bearer $TOKEN"]);
    assert!(said[0].starts_with("Pyro workspace ") && said[0].contains(" says 200 "), "{said:?}");
    assert!(said[0].contains(&format!("x-key: Bearer {stand_in}")), "{said:?}");
    let came = world.take_requests();
    assert_eq!(came.len(), 1, "{came:?}");
    assert_eq!(came[0].header("x-key"), [format!("Bearer {}", canary.text())]);
    let used = Prober::of(&home, workspace.clone()).logged(&["event=secret", "secret=TOKEN", "status=200"]);
    assert_eq!((&used["name"], &used["method"], &used["path"]), (&"api.test".into(), &"GET".into(), &"/headers".into()), "{used}");

    // Another header, the path, another host, another port, and in the clear: what arrives is what the guest has.
    let said = guest.asks(&[
        "api.test 443 /headers authorization $TOKEN",
        "api.test 443 /$TOKEN x-other $TOKEN",
        "other.test 443 /headers x-key $TOKEN",
        "api.test 8443 /headers x-key $TOKEN",
        "api.test 80 /headers x-key $TOKEN",
    ]);
    for (said, signer) in said.iter().zip(["Pyro workspace", "Pyro workspace", "the world of a test", "the world of a test", "nobody"]) {
        assert!(said.starts_with(signer) && said.contains(" says 200 "), "{said}");
    }
    let came = world.take_requests();
    assert_eq!(came.len(), 5, "{came:?}");
    for request in &came {
        assert!(!canary.is_in(format!("{request:?}").as_bytes()), "{request:?}");
        assert!(format!("{request:?}").contains(&stand_in), "{request:?}");
    }

    // A server that cannot show who it is gets nothing, and the guest can read why.
    let said = guest.asks(&["bad.untrusted.test 443 /headers x-key $TOKEN"]);
    assert!(said[0].contains(" says 502 ") && said[0].contains("certificate"), "{said:?}");
    assert_eq!(world.take_requests().len(), 0);

    // Nobody is between the guest and other hosts: the certificate is the server's own, whatever is spoken.
    Prober::of(&home, workspace.clone()).meets_by_tls(
        &world,
        "other.test 443 other.test h2,http/1.1 / other.test => h2 hello from other.test by HTTP/2.0
        other.test 443 other.test http/1.1 /ws other.test => http/1.1 101 hello
        api.test 443 api.test http/1.1 / api.test => SSLCertVerificationError",
    );

    // It is in the supervisor's memory, and in nothing else that the guest, or whoever copies its disk, has a hand on.
    let (supervisor, machine) = home.processes(&workspace);
    assert!(canary.is_in_memory_of(supervisor), "who looks for it finds it where it is");
    assert!(!canary.is_in_memory_of(machine), "the guest has it");
    assert_eq!(canary.files_below(home.path()), Vec::<std::path::PathBuf>::new());
    canary.assert_in_no_process_list(&home);

    // Another machine of the workspace, and a copy of it, have an authority of their own, which works.
    let arrives = |guest: &Guest<'_>, value: &str| {
        let _ = world.take_requests();
        let said = guest.asks(&["api.test 443 /headers x-key $TOKEN"]);
        assert!(said[0].starts_with("Pyro workspace ") && said[0].contains(" says 200 ") && !said[0].contains(value), "{said:?}");
        assert_eq!(world.take_requests()[0].header("x-key"), [value]);
    };
    let fork = home.pyro(&["workspace", "fork", &workspace, "--json"]).ok().json();
    let fork = Guest { home: &home, workspace: fork["forks"][0]["workspace_id"].as_str().expect("it has an id").to_owned() };
    arrives(&fork, canary.text());
    // Processes that go on in the copy know what stands for the value.
    let stand_in = |of: &str| home.pyro(&["workspace", "exec", of, "--secret-env", "TOKEN", "--", "sh", "-c", "echo $TOKEN"]).ok().text();
    assert_eq!(stand_in(&fork.workspace), stand_in(&workspace));
    let _ = home.pyro(&["workspace", "delete", &fork.workspace]).ok();
    let _ = home.pyro(&["workspace", "reset", &workspace]).ok();
    arrives(&guest, canary.text());
    let _ = home.pyro(&["workspace", "stop", &workspace]).ok();
    let _ = home.pyro(&["workspace", "start", &workspace, "--secret", "TOKEN=another-value"]).ok();
    arrives(&guest, "another-value");
    let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    home.assert_nothing_left();
}
