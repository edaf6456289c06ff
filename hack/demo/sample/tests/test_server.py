import socket
import threading
import unittest

from wordcount import Server


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = Server(("127.0.0.1", 0))
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.connection = socket.create_connection(self.server.server_address, timeout=10)
        self.answers = self.connection.makefile()

    def tearDown(self):
        self.answers.close()
        self.connection.close()
        self.server.shutdown()
        self.server.server_close()

    def ask(self, line):
        self.connection.sendall(f"{line}\n".encode())
        return int(self.answers.readline())

    def test_counts_words(self):
        self.assertEqual(self.ask("how many words are these"), 5)

    def test_several_blanks_separate_two_words_once(self):
        self.assertEqual(self.ask("one  two   three"), 3)

    def test_an_empty_line_has_no_words(self):
        self.assertEqual(self.ask(""), 0)


if __name__ == "__main__":
    unittest.main()
