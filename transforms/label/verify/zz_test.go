package verify
import ("testing";"syscall";"runtime";"runtime/debug";"context";"time")
func TestZZ(t *testing.T){
 runtime.LockOSThread(); debug.SetGCPercent(400); m:=NewMath(MathConfig{})
 cpu:=func() time.Duration{ var r syscall.Rusage; syscall.Getrusage(1,&r); return time.Duration(r.Utime.Nano()+r.Stime.Nano())}
 for n,p:=range bombs(){ best:=time.Hour; for range 5 { s:=cpu(); m.Verify(context.Background(),Gold{p[0]},Response{Text:p[1]}); if d:=cpu()-s; d<best{best=d} }; if best>2*time.Millisecond{t.Log(n,best)} }
}
