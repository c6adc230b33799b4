// A real Socket.IO client, led by lines of JSON: commands come in, what happens goes out.
const { io } = require("socket.io-client");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const EVENTS = ["user:data:updated", "user:update", "presence:pong", "user:problem"];
let socket;

const commands = {
  connect({ url, options }) {
    socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
    socket.on("connect", () => say({ event: "connect" }));
    socket.on("connect_error", (error) =>
      say({ event: "connect_error", message: error.message, data: error.data }),
    );
    socket.on("disconnect", (reason) => say({ event: "disconnect", data: reason }));
    socket.io.engine.on("upgrade", (transport) => say({ event: "upgrade", data: transport.name }));
    for (const name of EVENTS) socket.on(name, (data) => say({ event: name, data }));
  },
  emit({ name, args }) {
    socket.emit(name, ...args);
  },
  ask({ name, args }) {
    socket.emit(name, ...args, (data) => say({ event: "answer", data }));
  },
  binary({ name, size }) {
    socket.emit(name, Buffer.alloc(size));
  },
  close() {
    socket.disconnect();
  },
  lose() {
    socket.io.engine.close();
  },
};

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit(0));
