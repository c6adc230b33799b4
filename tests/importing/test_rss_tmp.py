import resource, subprocess, sys, asyncio, json
sys.path.insert(0,'/work/wt/imports')
import pytest
def test_rss(world):
    for n in (20000, 150000):
        p=world.folder/f'{n}.jsonl'
        with p.open('w') as f:
            for i in range(n): f.write(json.dumps({"user_id": f"u{n}-{i}", "data": {"game_stats": {"score": i, "games_played": 3}}})+"\n")
        proc=world.process('user_sync_data','--from',str(p))
        peak=0
        import time
        t=time.time()
        while proc.poll() is None:
            try:
                for line in open(f'/proc/{proc.pid}/status'):
                    if line.startswith('VmHWM'): peak=int(line.split()[1])
            except (FileNotFoundError, ProcessLookupError): pass
            time.sleep(.2)
        print(n, 'peak MB', peak/1024, 'rows/s', n/(time.time()-t), proc.returncode)
