fn main() -> foster::Result {
    let fx = foster::Fixture::command("cat").spawn()?;
    eprintln!("{:?} {:?}", foster::level(), fx);
    for e in foster::registry::live() { eprintln!("{e}"); }
    let t = std::time::Instant::now();
    for _ in 0..2000 { fx.send_line("hello")?; fx.expect_line("hello")?; }
    eprintln!("rtt {:?}", t.elapsed() / 2000);
    let t = std::time::Instant::now();
    for _ in 0..200 { let f = foster::Fixture::command("true").spawn()?; f.expect_exit()?; }
    eprintln!("spawn->status->drop {:?}", t.elapsed() / 200);
    let t = std::time::Instant::now();
    for _ in 0..200 { let mut c = std::process::Command::new("true").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap(); c.wait().unwrap(); }
    eprintln!("std {:?}", t.elapsed() / 200);
    println!("{:?}", fx.expect_line("no"));
    fx.send_line("yes")?;
    println!("{:?}", fx.expect_line("no"));
    println!("{:?}", foster::Fixture::command("nonono").spawn().unwrap_err());
    println!("{:?}", foster::Fixture::command("/etc/passwd").spawn().unwrap_err());
    println!("{:?}", foster::Fixture::command("sh").args(["-c", "echo hi; echo oops >&2; exit 3"]).spawn()?.expect("x").unwrap_err());
    println!("{:?}", fx.stop()?);
    Ok(())
}
